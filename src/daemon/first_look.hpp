// SPDX-License-Identifier: Apache-2.0
// Looks at a host without a daemon: what would be a workload under some settings, and which
// connections those have open. Changes nothing.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "trireme/config/host.hpp"
#include "trireme/kernel/cgroup.hpp"
#include "trireme/policy/seen.hpp"

namespace trireme::daemon {

struct FirstLook {
  std::size_t workloads = 0;  // containers, units and commands that would be under policy
  std::vector<std::string> quarantined;  // containers that would be quarantined, and why
  std::vector<std::string> left_alone;   // containers of engines that are not configured, and why
  struct Connections {
    policy::SeenFlow flow;
    std::string blocked;  // why an end would be in quarantine
  };
  std::vector<Connections> connections;  // open ones of the workloads; identical ones are one entry
  std::vector<std::string> problems;     // what could not be checked
};

/// `has_handshakes`: this kernel has queues for them. Asks the container engines and reads cgroups
/// and sockets. Waits at most `patience` for an engine, and asks only if containers run: connecting
/// to Docker's socket can start Docker, which waits for trireme. Commands that trirun has started
/// are workloads under any settings. Blocks. Needs root.
[[nodiscard]] FirstLook look_at_host(const kernel::CgroupTree& tree, const config::Host& host,
                                     bool has_handshakes, std::chrono::milliseconds patience);

}  // namespace trireme::daemon
