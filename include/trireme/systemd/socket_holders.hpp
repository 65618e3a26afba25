// SPDX-License-Identifier: Apache-2.0
// Which processes have a socket, by /proc.
#pragma once

#include <cstdint>
#include <set>

namespace trireme::systemd {

/// Inode numbers of the sockets that the process has descriptors of. Of another user's process only
/// CAP_DAC_READ_SEARCH sees them.
[[nodiscard]] std::set<std::uint32_t> sockets_of_process(std::uint32_t pid);

/// Those of `sockets` that no process but PID 1 has a descriptor of; none where that cannot be
/// known. What is on its way in a message between processes is not seen. Takes all capabilities,
/// and as long as there are processes: for the gate of a unit, not for the daemon.
[[nodiscard]] std::set<std::uint32_t> held_by_init_alone(std::set<std::uint32_t> sockets);

}  // namespace trireme::systemd
