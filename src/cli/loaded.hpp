// SPDX-License-Identifier: Apache-2.0
// What `policy diff`, `suggest` and `graph` read from the daemon and evaluate in trirectl: the
// policy in force, the current workloads, and the flows that were seen.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "command.hpp"
#include "trireme/config/loader.hpp"
#include "trireme/policy/access.hpp"
#include "trireme/policy/seen.hpp"

namespace trireme::cli {

/// The policy in force, parsed from the files as the daemon read them, without expired rules.
[[nodiscard]] Result<policy::Policy> loaded_policy(const Globals& globals);
/// The policy and the identity in force, likewise, without what config::complete() adds.
[[nodiscard]] Result<config::Configuration> loaded_configuration(const Globals& globals);
/// The label sets of the current workloads, each with the names of its workloads.
[[nodiscard]] Result<std::vector<policy::Party>> present_parties(const Globals& globals);
struct RecentFlows {
  std::vector<policy::SeenFlow> flows;  // identical ones grouped
  std::uint64_t forgotten = 0;          // kinds that the daemon had no room for since its start
};
/// What the daemon remembers. `params` are those of the control method `flows`.
[[nodiscard]] Result<RecentFlows> recent_flows(const Globals& globals, nlohmann::json params);
/// A note for the user; empty if nothing was forgotten.
[[nodiscard]] std::string forgotten_text(std::uint64_t kinds);
enum class Live : std::uint8_t {
  workloads,  // connections of workloads
  processes,  // also those of units and containers that are no workloads
};
struct LiveFlows {
  std::vector<policy::SeenFlow> flows;  // identical ones grouped
  std::uint64_t unknown = 0;            // audited flows whose ends are not known; not in `flows`
  std::uint64_t unread_networks = 0;    // network namespaces that the daemon did not read
  bool complete = true;  // false: `unread_networks`, or more kinds than the daemon counts
};
/// "not all open connections are known: reading the sockets of 3 network namespaces takes too long"
[[nodiscard]] std::string unread_text(std::uint64_t unread_networks);
/// Open connections.
[[nodiscard]] Result<LiveFlows> live_flows(const Globals& globals, Live live = Live::workloads);

}  // namespace trireme::cli
