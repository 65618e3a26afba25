// SPDX-License-Identifier: Apache-2.0
// Open connections of workloads, read from conntrack, for the method `connections`.
#pragma once

#include <cstdint>
#include <vector>

#include "daemon.hpp"
#include "trireme/control/flow.hpp"

namespace trireme::daemon {

struct Connections {
  std::vector<control::FlowTally> tallies;  // one for each group of identical connections
  std::uint64_t flows = 0;                  // all connections, including `unknown`
  /// Audited connections whose endpoints are not known, because the flow log has dropped their
  /// report.
  std::uint64_t unknown = 0;
  bool complete = true;  // false: there were more groups than the limit of 100,000
};

/// Reads the conntrack table of every enforcement point once. A connection between two enforcement
/// points counts once. Connections of a workload to itself are left out.
[[nodiscard]] Result<Connections> connections(Daemon& daemon);

}  // namespace trireme::daemon
