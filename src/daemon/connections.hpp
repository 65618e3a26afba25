// SPDX-License-Identifier: Apache-2.0
// Open connections of workloads, for the method `connections`. TCP connections are read from the
// sockets of every enforcement point, so that a connection is attributed to the cgroups of its ends
// as they are now, whatever they were when it began. Conntrack adds what sockets do not show: NAT,
// the identities of remote hosts, and UDP flows.
#pragma once

#include <cstdint>
#include <vector>

#include "daemon.hpp"
#include "trireme/control/flow.hpp"

namespace trireme::daemon {

/// A group of identical connections.
struct OpenConnections {
  control::FlowTally tally;
  /// TCP: the clients' ports, one for each connection. Only with Scope::everything.
  std::vector<std::uint16_t> client_ports;
  bool is_local = false;     // both ends have their sockets in one network namespace
  bool is_guess = false;     // which end is the client is a guess by the ports
  bool is_unproved = false;  // as in policy::SeenFlow
  /// As in policy::SeenEnd. Only with Scope::everything.
  bool from_has_token = false;
  bool to_has_token = false;
};

struct Connections {
  std::vector<OpenConnections> groups;  // largest count first
  std::uint64_t flows = 0;              // all connections, including `unknown`
  /// Audited flows without a socket here whose conntrack entries do not say whose they are.
  std::uint64_t unknown = 0;
  /// Network namespaces that were not read, because ReadingTime was over. The ends of connections
  /// there are not known; their other ends here are listed.
  std::size_t unread = 0;
  bool complete = true;  // false: `unread`, or there were more groups than the limit of 100,000
};

enum class Scope : std::uint8_t {
  workloads,   // connections of which an end is a workload
  everything,  // also those of which an end is a process of a unit or a container
};

/// A connection between two enforcement points counts once. Connections of a workload to itself are
/// left out, those that policy is about to end, and queries of containers to Docker's resolver.
/// Errors: netlink fails.
[[nodiscard]] Result<Connections> connections(Daemon& daemon, Scope scope);

}  // namespace trireme::daemon
