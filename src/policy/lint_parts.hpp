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

/// Whether every label set that `inner` matches is matched by `outer`. May be false although it
/// does; never true if it does not.
[[nodiscard]] bool includes(const Selector& outer, const Selector& inner);
/// The same for alternatives of a rule, and for ports (empty: all).
[[nodiscard]] bool includes(const std::vector<Peer>& outer, const std::vector<Peer>& inner);
[[nodiscard]] bool includes(const std::vector<PortRange>& outer,
                            const std::vector<PortRange>& inner);

}  // namespace trireme::policy
