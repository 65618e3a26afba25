// SPDX-License-Identifier: Apache-2.0
// Labels and label sets.
#pragma once

#include <compare>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>

#include "trireme/base/result.hpp"

namespace trireme::policy {

/// At most this many labels in a set, and this many bytes in its encoding (keys, values and
/// separators).
inline constexpr std::size_t kMaxLabels = 128;
inline constexpr std::size_t kMaxLabelSetBytes = 8192;
/// A Kubernetes key: a DNS name of 253 bytes, a slash, a name of 63.
inline constexpr std::size_t kMaxKeyBytes = 317;

struct Label {
  std::string key;
  std::string value;
  auto operator<=>(const Label&) const = default;
};

/// UTF-8 (RFC 3629) without control characters (C0, DEL, C1): safe in JSON, journals and terminals.
[[nodiscard]] bool is_printable(std::string_view text);
/// An operator's key: letters, digits and `. _ - /`, a letter or digit at both ends, at most
/// kMaxKeyBytes.
[[nodiscard]] Status check_key(std::string_view key);
/// An operator's value: printable UTF-8 without '=', ',', parentheses, '*' or white space. May be
/// empty.
[[nodiscard]] Status check_value(std::string_view value);
/// Parses an operator's `key=value` (check_key, check_value). A second '=' is an error, never a
/// silent cut.
[[nodiscard]] Result<Label> parse_label(std::string_view text);

/// An unordered set of labels with unique keys. What comes from Docker may hold any printable
/// UTF-8, keys all but '=' and space.
///
/// Labels are the workload's own, or [host] labels, which every workload of a host has. Selectors
/// see no difference. The baseline does: a set without own labels matches nobody, and only own
/// labels are a common label.
///
/// Copies share their content, since many places keep the labels of every workload; a change gives
/// the changed copy a content of its own.
class LabelSet {
 public:
  using Map = std::map<std::string, std::string, std::less<>>;
  using Keys = std::set<std::string, std::less<>>;

  /// Adds or replaces. Errors, which leave the set as it was: invalid key, control characters in
  /// the value, set too large.
  [[nodiscard]] Status set(std::string_view key, std::string_view value);
  /// The same as a [host] label; an own label with that key gives way.
  [[nodiscard]] Status set_of_host(std::string_view key, std::string_view value);
  /// Adds all labels of `host` as [host] labels.
  [[nodiscard]] Status add_host_labels(const LabelSet& host);
  /// The value of `key`, or null.
  [[nodiscard]] const std::string* find(std::string_view key) const;
  /// One key with one value at least is in both, as an own label.
  [[nodiscard]] bool shares_a_label(const LabelSet& other) const;
  /// Both have the same labels, whoever gave them, and each has an own one.
  [[nodiscard]] bool same_labels(const LabelSet& other) const;
  /// Own and [host] labels.
  [[nodiscard]] const Map& items() const { return content().items; }
  [[nodiscard]] bool empty() const { return items().empty(); }
  /// Keys of [host] labels.
  [[nodiscard]] const Keys& host_keys() const { return content().host_keys; }
  [[nodiscard]] bool has_own() const { return items().size() > host_keys().size(); }
  /// Own labels only.
  [[nodiscard]] LabelSet own() const;
  /// All labels, as if they were own ones.
  [[nodiscard]] LabelSet all_as_own() const;
  /// "app=web,env=prod", keys in order, for people.
  [[nodiscard]] std::string text() const;
  /// One `key=value` line per label, keys in order, [host] labels with '=' in front: the format of
  /// xattrs and tokens, and the key that makes identities equal.
  [[nodiscard]] std::string encode() const;
  /// The inverse of encode(); anything that encode() cannot have written (but for the order) is an
  /// error.
  [[nodiscard]] static Result<LabelSet> decode(std::string_view encoded);

  bool operator==(const LabelSet& other) const {
    return content_ == other.content_ || content() == other.content();
  }
  std::strong_ordering operator<=>(const LabelSet& other) const {
    return content_ == other.content_ ? std::strong_ordering::equal : content() <=> other.content();
  }

 private:
  struct Content {
    Map items;
    Keys host_keys;
    bool operator==(const Content&) const = default;
    std::strong_ordering operator<=>(const Content&) const = default;
  };
  [[nodiscard]] const Content& content() const { return content_ ? *content_ : kNone; }
  /// To be changed: not shared with a copy.
  [[nodiscard]] Content& own_content();
  [[nodiscard]] Status put(std::string_view key, std::string_view value, bool of_host);

  static const Content kNone;
  std::shared_ptr<Content> content_;  // null: no labels
};

}  // namespace trireme::policy
