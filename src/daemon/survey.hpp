// SPDX-License-Identifier: Apache-2.0
// A host before trireme's first start: who would become a workload, and whom those talk to now.
// Changes nothing.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "trireme/kernel/cgroup.hpp"
#include "trireme/policy/identity.hpp"
#include "trireme/policy/seen.hpp"

namespace trireme::daemon {

struct Survey {
  std::size_t workloads = 0;            // containers and units that would be under policy
  std::vector<std::string> shut;        // containers that would be in quarantine, and why
  std::vector<std::string> left_alone;  // containers of engines that are not configured, and why
  std::vector<policy::SeenFlow> flows;  // live connections with one of them at
                                        // an end at least, alike ones together
  std::vector<std::string> problems;    // what could not be looked at
};

/// Asks the engines of containers (for `patience` at most, and only where containers run: a socket
/// may start Docker, which waits for us) and reads cgroups and sockets. Blocks; for root.
[[nodiscard]] Survey look_at_host(const kernel::CgroupTree& tree, const policy::Identity& identity,
                                  std::chrono::milliseconds patience);

}  // namespace trireme::daemon
