// SPDX-License-Identifier: Apache-2.0
// The parts of lint(). Each appends its findings.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "trireme/policy/lint.hpp"

namespace trireme::policy {

/// Limits how much is compared: lint() runs at each load, which must not take seconds because
/// thousands of rules are similar or lists are long.
class Effort {
 public:
  /// Counts steps. False if too many were counted: the comparison must end, as if it had found
  /// nothing.
  [[nodiscard]] bool spend(std::size_t steps) {
    left_ -= std::min(left_, steps);
    return left_ > 0;
  }
  [[nodiscard]] bool is_spent() const { return left_ == 0; }

 private:
  std::size_t left_ = 10'000'000;
};

/// Rules that other rules cover completely.
void find_rules_without_effect(const Policy& policy, std::vector<Finding>& findings);
/// Rules that cover more than their name says.
void find_wide_rules(const Policy& policy, const Vocabulary& known, std::vector<Finding>& findings);

/// Whether no label set meets both conditions, which have the same key. May be false although none
/// does; never true if one does.
[[nodiscard]] bool contradict(const Requirement& a, const Requirement& b, Effort& effort);

}  // namespace trireme::policy
