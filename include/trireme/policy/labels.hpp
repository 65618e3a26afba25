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

/// UTF-8 (RFC 3629) without control characters (C0, DEL, C1). Characters that change the direction
/// of text are accepted; whatever prints text for people replaces them (base/printable.hpp).
[[nodiscard]] bool is_printable(std::string_view text);
/// Checks a key that an operator wrote: letters, digits and `. _ - /`, a letter or digit at both
/// ends, at most kMaxKeyBytes.
[[nodiscard]] Status check_key(std::string_view key);
/// Checks a value that an operator wrote: printable UTF-8 without '=', ',', parentheses, '*' or a
/// space. May be empty.
[[nodiscard]] Status check_value(std::string_view value);
/// Parses `key=value` that an operator wrote (check_key, check_value). A second '=' is an error; it
/// never truncates the value.
[[nodiscard]] Result<Label> parse_label(std::string_view text);
/// An unordered set of labels with unique keys. Labels from Docker may contain any printable UTF-8,
/// except '=' and spaces in keys.
///
/// A label is either the workload's own, or a [host] label, which every workload of a host has.
/// Selectors make no difference between them. The baseline does: it does not apply to a set without
/// own labels, and only an own label counts as a common label.
///
/// Copy-on-write: copies share their content until one of them changes, because the labels of every
/// workload are kept in many places.
class LabelSet {
 public:
  using Map = std::map<std::string, std::string, std::less<>>;
  using Keys = std::set<std::string, std::less<>>;

  /// Adds or replaces an own label. Errors: invalid key, control characters in the value, set too
  /// large. An error leaves the set unchanged.
  [[nodiscard]] Status set(std::string_view key, std::string_view value);
  /// Adds or replaces a [host] label. Replaces an own label with the same key.
  [[nodiscard]] Status set_of_host(std::string_view key, std::string_view value);
  /// Adds all labels of `host` as [host] labels. On error, some of them may have been added.
  [[nodiscard]] Status add_host_labels(const LabelSet& host);
  /// The value of `key`, or null.
  [[nodiscard]] const std::string* find(std::string_view key) const;
  /// True if at least one label (key and value) is an own label of both sets.
  [[nodiscard]] bool shares_a_label(const LabelSet& other) const;
  /// True if both sets have the same labels, own or [host], and each has at least one own label.
  [[nodiscard]] bool same_labels(const LabelSet& other) const;
  /// Own and [host] labels.
  [[nodiscard]] const Map& items() const { return content().items; }
  [[nodiscard]] bool empty() const { return items().empty(); }
  /// Keys of [host] labels.
  [[nodiscard]] const Keys& host_keys() const { return content().host_keys; }
  [[nodiscard]] bool has_own() const { return items().size() > host_keys().size(); }
  /// Own labels only.
  [[nodiscard]] LabelSet own() const;
  /// All labels, with [host] labels turned into own labels.
  [[nodiscard]] LabelSet all_as_own() const;
  /// "app=web,env=prod", sorted by key, for people.
  [[nodiscard]] std::string text() const;
  /// One `key=value` line per label, sorted by key; [host] labels have '=' in front. The format of
  /// xattrs and tokens. Two label sets are the same identity if their encodings are equal.
  [[nodiscard]] std::string encode() const;
  /// The inverse of encode(). Accepts any order; anything else that encode() does not write is an
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
  /// For changes: makes the content unshared first.
  [[nodiscard]] Content& own_content();
  [[nodiscard]] Status put(std::string_view key, std::string_view value, bool of_host);

  static const Content kNone;
  std::shared_ptr<Content> content_;  // null: no labels
};

}  // namespace trireme::policy
