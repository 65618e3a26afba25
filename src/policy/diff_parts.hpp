// SPDX-License-Identifier: Apache-2.0
// What diff() is made of: rules by their meaning, the peers without labels that two policies speak
// of, and port arithmetic.
#pragma once

#include <set>
#include <vector>

#include "trireme/policy/access.hpp"

namespace trireme::policy {

/// Rules that the other policy does not have, by index; it does not matter where they are written,
/// nor what networks are called.
[[nodiscard]] std::set<std::size_t> rules_of_its_own(const Policy& policy, const Policy& other);
/// How many rules one of the two has and the other has not, by all that they do: logging too.
[[nodiscard]] std::size_t differing_rules(const Policy& before, const Policy& after);

/// Adds the entities of both policies, and where a network has changed, each address range that
/// only one of them has.
void add_entities(std::vector<Party>& parties, const Policy& before, const Policy& after);

/// Ports of openings, whatever opens them; sorted and disjoint.
[[nodiscard]] std::vector<PortRange> ranges_of(const std::vector<Opening>& openings);
/// What is in `ranges` and not in `without`; both sorted and disjoint.
[[nodiscard]] std::vector<PortRange> minus(const std::vector<PortRange>& ranges,
                                           const std::vector<PortRange>& without);

}  // namespace trireme::policy
