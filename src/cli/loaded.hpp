// SPDX-License-Identifier: Apache-2.0
// What `policy diff`, `suggest` and `graph` read from the daemon and evaluate in trirectl: the
// policy in force, the current workloads, and the flows that were seen.
#pragma once

#include <vector>

#include "command.hpp"
#include "trireme/config/loader.hpp"
#include "trireme/policy/access.hpp"
#include "trireme/policy/seen.hpp"

namespace trireme::cli {

/// The policy in force, parsed from the files as the daemon read them, without expired rules.
[[nodiscard]] Result<policy::Policy> loaded_policy(const Globals& globals);
/// The label sets of the current workloads, each with the names of its workloads.
[[nodiscard]] Result<std::vector<policy::Party>> present_parties(const Globals& globals);
/// Recent flows, identical ones grouped. `params` are those of the control method `flows`.
[[nodiscard]] Result<std::vector<policy::SeenFlow>> recent_flows(const Globals& globals,
                                                                 nlohmann::json params);
/// Open connections, identical ones grouped. `unknown`, if given, gets the number of audited
/// connections whose endpoints are no longer known; these are not in the result.
[[nodiscard]] Result<std::vector<policy::SeenFlow>> live_flows(const Globals& globals,
                                                               std::uint64_t* unknown = nullptr);

}  // namespace trireme::cli
