// SPDX-License-Identifier: Apache-2.0
// What the daemon has, for questions that are answered here: the policy in force, who is present,
// what was seen.
#pragma once

#include <vector>

#include "command.hpp"
#include "trireme/config/loader.hpp"
#include "trireme/policy/access.hpp"
#include "trireme/policy/seen.hpp"

namespace trireme::cli {

/// The policy in force, read from the daemon's own copy of its files.
[[nodiscard]] Result<policy::Policy> loaded_policy(const Globals& globals);
/// Label sets of the workloads that are there, with their names.
[[nodiscard]] Result<std::vector<policy::Party>> present_parties(const Globals& globals);
/// Recent flows, alike ones together. `params` as the method `flows` reads them.
[[nodiscard]] Result<std::vector<policy::SeenFlow>> recent_flows(const Globals& globals,
                                                                 nlohmann::json params);
/// Live connections, alike ones together. `unknown`, where given: audited ones beside them, of
/// which nobody knows the ends any more.
[[nodiscard]] Result<std::vector<policy::SeenFlow>> live_flows(const Globals& globals,
                                                               std::uint64_t* unknown = nullptr);

}  // namespace trireme::cli
