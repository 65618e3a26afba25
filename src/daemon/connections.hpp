// SPDX-License-Identifier: Apache-2.0
// Live connections of workloads, from conntrack: what the method `connections` tells.
#pragma once

#include <cstdint>
#include <vector>

#include "daemon.hpp"
#include "trireme/control/flow.hpp"

namespace trireme::daemon {

struct Connections {
  std::vector<control::FlowTally> tallies;  // alike ones together
  std::uint64_t flows = 0;
  std::uint64_t unknown =
      0;  // of these, audited ones that the flow log has forgotten: nobody knows whose they are
  bool complete = true;  // false: there were more kinds than are told
};

/// Reads every enforcement point's table once; a connection between two of them counts once. Those
/// of a workload with itself are left out.
[[nodiscard]] Result<Connections> connections(Daemon& daemon);

}  // namespace trireme::daemon
