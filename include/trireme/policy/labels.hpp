// Labels and label sets.
#pragma once

#include <compare>
#include <map>
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
class LabelSet {
 public:
  using Map = std::map<std::string, std::string, std::less<>>;

  /// Adds or replaces. Errors, which leave the set as it was: invalid key, control characters in
  /// the value, set too large.
  [[nodiscard]] Status set(std::string_view key, std::string_view value);
  /// The value of `key`, or null.
  [[nodiscard]] const std::string* find(std::string_view key) const;
  /// One key with one value at least is in both.
  [[nodiscard]] bool shares_a_label(const LabelSet& other) const;
  [[nodiscard]] const Map& items() const { return items_; }
  [[nodiscard]] bool empty() const { return items_.empty(); }
  /// "app=web,env=prod", keys in order, for people.
  [[nodiscard]] std::string text() const;
  /// One `key=value` line per label, keys in order: the xattr's format, and the key that makes
  /// identities equal.
  [[nodiscard]] std::string encode() const;
  /// The inverse of encode(); anything that encode() cannot have written (but for the order) is an
  /// error.
  [[nodiscard]] static Result<LabelSet> decode(std::string_view encoded);

  auto operator<=>(const LabelSet&) const = default;

 private:
  Map items_;
};

}  // namespace trireme::policy
