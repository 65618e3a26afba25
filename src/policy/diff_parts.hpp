// SPDX-License-Identifier: Apache-2.0
// Parts of diff(): comparing rules by what they do, the entities that two policies name, and port
// arithmetic.
#pragma once

#include <set>
#include <vector>

#include "trireme/policy/access.hpp"

namespace trireme::policy {

/// Indices of rules that the other policy does not have. Names and places of rules and names of
/// networks do not matter.
[[nodiscard]] std::set<std::size_t> rules_of_its_own(const Policy& policy, const Policy& other);
/// The number of rules that only one of the two policies has. Logging counts as a difference.
[[nodiscard]] std::size_t differing_rules(const Policy& before, const Policy& after);

/// Adds the entities of both policies. For a network that has changed, adds each prefix and DNS
/// name that only one of the policies has.
void add_entities(std::vector<Party>& parties, const Policy& before, const Policy& after);

/// The ports of openings, whichever rule opens them; sorted and disjoint.
[[nodiscard]] std::vector<PortRange> ranges_of(const std::vector<Opening>& openings);
/// The ports in `ranges` that are not in `without`. Both must be sorted and disjoint.
[[nodiscard]] std::vector<PortRange> minus(const std::vector<PortRange>& ranges,
                                           const std::vector<PortRange>& without);

}  // namespace trireme::policy
