// SPDX-License-Identifier: Apache-2.0
// The parts of lint(). Each appends its findings.
#pragma once

#include <vector>

#include "trireme/policy/lint.hpp"

namespace trireme::policy {

/// Rules that other rules cover completely.
void find_rules_without_effect(const Policy& policy, std::vector<Finding>& findings);
/// Rules that cover more than their name says.
void find_wide_rules(const Policy& policy, const Vocabulary& known, std::vector<Finding>& findings);

/// Whether no label set meets both conditions, which have the same key. May be false although none
/// does; never true if one does.
[[nodiscard]] bool contradict(const Requirement& a, const Requirement& b);

}  // namespace trireme::policy
