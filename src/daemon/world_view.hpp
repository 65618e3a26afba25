// SPDX-License-Identifier: Apache-2.0
// What the daemon knows about who is where, for the methods `explain` and `world`.
#pragma once

#include "daemon.hpp"
#include "trireme/policy/world.hpp"

namespace trireme::daemon {

/// Reads the workloads, the addresses of this host's interfaces, those that engines declare for
/// their containers, and the DNS names learned at each enforcement point. Nothing is read from a
/// container's network namespace, where the container may have set the addresses itself.
[[nodiscard]] policy::World world_view(Daemon& daemon);

}  // namespace trireme::daemon
