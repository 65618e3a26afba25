// SPDX-License-Identifier: Apache-2.0
// Label selectors: `k=v`, `k!=v`, `k in (a, b)`, `k notin (a)`, `k`, `!k`, joined by commas (AND);
// a value `v*` matches a prefix; the selector `*` matches every workload. They are like those of
// Kubernetes, which have no `v*` and `*`, but `>` and `<`. trireme-policy.toml(5) defines them.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/policy/labels.hpp"

namespace trireme::policy {

/// Whether `value` equals `pattern`, or starts with it if the pattern ends in '*'.
[[nodiscard]] bool matches_pattern(std::string_view pattern, std::string_view value);
/// Parses a label pattern such as "app=web*": like parse_label(), but the value may end in '*',
/// which is kept. Used for launch grants and certificates.
[[nodiscard]] Result<Label> parse_label_pattern(std::string_view text);
/// Whether every label of the set matches a pattern.
[[nodiscard]] bool cover(const std::vector<Label>& patterns, const LabelSet& labels);

/// One condition of a selector. A new operator: see the table in CONTRIBUTING.md.
struct Requirement {
  enum class Operator : std::uint8_t {
    in,
    not_in,
    exists,
    not_exists
  };  // `=` is `in` with one value, `!=` is `not_in` with one
  std::string key;
  Operator op = Operator::exists;
  std::vector<std::string> values;  // a trailing '*' matches a prefix; sorted, unique

  /// As in Kubernetes, `!=` and `notin` also match if the key is absent.
  [[nodiscard]] bool matches(const LabelSet& labels) const;
  /// Whether only label sets that have the key can match. For indexes.
  [[nodiscard]] bool needs_key() const;
  /// The only values of the key that match, or null if others match too, or none is needed. For
  /// indexes.
  [[nodiscard]] const std::vector<std::string>* exact_values() const;
  /// "app=web", "env in (prod, staging)", "!canary".
  [[nodiscard]] std::string text() const;
  auto operator<=>(const Requirement&) const = default;
};

/// A parse error. `offset` is the 0-based byte offset in the selector's text.
struct SelectorError {
  std::size_t offset = 0;
  Error error;
};

class Selector {
 public:
  [[nodiscard]] static tl::expected<Selector, SelectorError> parse(std::string_view text);
  /// Whether all requirements match. Other labels of the set do not matter.
  [[nodiscard]] bool matches(const LabelSet& labels) const;
  [[nodiscard]] const std::vector<Requirement>& requirements() const { return requirements_; }
  /// Canonical text: equal selectors have equal text, also if their conditions were written in
  /// another order.
  [[nodiscard]] std::string text() const;
  auto operator<=>(const Selector&) const = default;

 private:
  std::vector<Requirement> requirements_;  // sorted, unique; empty: `*`
};

/// Whether the text is a selector and has an operator, a list or a '*', so that a workload's name
/// or `key=value` is not meant.
[[nodiscard]] bool is_clearly_selector(std::string_view text);

/// Parses the labels of one workload as a user writes them: "app=web,env=prod". The error says so
/// if the text is a selector.
[[nodiscard]] Result<LabelSet> parse_labels(std::string_view text);

}  // namespace trireme::policy
