// SPDX-License-Identifier: Apache-2.0
// Kubernetes label selectors: `k=v`, `k!=v`, `k in (a, b)`, `k notin (a)`, `k`, `!k`, joined by
// commas (AND); `v*` matches a prefix; `*` is everything.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/policy/labels.hpp"

namespace trireme::policy {

/// Whether `value` is `pattern`, or starts with it where the pattern ends in '*'.
[[nodiscard]] bool matches_pattern(std::string_view pattern, std::string_view value);
/// "app=web*": an operator's label (parse_label) whose value may end in '*', and keeps it. What
/// grants and certificates are made of.
[[nodiscard]] Result<Label> parse_label_pattern(std::string_view text);
/// Whether every label of the set is covered by some pattern.
[[nodiscard]] bool cover(const std::vector<Label>& patterns, const LabelSet& labels);

struct Requirement {
  enum class Operator : std::uint8_t {
    in,
    not_in,
    exists,
    not_exists
  };  // `=` is `in` with one value, `!=` is `not_in` with one
  std::string key;
  Operator op = Operator::exists;
  std::vector<std::string> values;  // a trailing '*' makes a value a prefix; sorted, unique

  /// Kubernetes semantics: `!=` and `notin` hold where the key is absent.
  [[nodiscard]] bool matches(const LabelSet& labels) const;
  /// "app=web", "env in (prod, staging)", "!quarantine".
  [[nodiscard]] std::string text() const;
  auto operator<=>(const Requirement&) const = default;
};

/// Where in the selector's text a parse failed: a 0-based byte offset.
struct SelectorError {
  std::size_t offset = 0;
  Error error;
};

class Selector {
 public:
  [[nodiscard]] static tl::expected<Selector, SelectorError> parse(std::string_view text);
  /// All requirements hold. Counts requirements, not labels.
  [[nodiscard]] bool matches(const LabelSet& labels) const;
  [[nodiscard]] const std::vector<Requirement>& requirements() const { return requirements_; }
  /// Canonical text: equal selectors have equal text, whatever the order they were written in.
  [[nodiscard]] std::string text() const;
  auto operator<=>(const Selector&) const = default;

 private:
  std::vector<Requirement> requirements_;  // empty: `*`; sorted, unique
};

}  // namespace trireme::policy
