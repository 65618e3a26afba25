// SPDX-License-Identifier: Apache-2.0
// Which processes hold a socket, according to /proc.
#pragma once

#include <cstdint>
#include <set>

namespace trireme::systemd {

/// Inode numbers of the sockets that the process has descriptors of. For a process of another user
/// this needs CAP_DAC_READ_SEARCH.
[[nodiscard]] std::set<std::uint32_t> sockets_of_process(std::uint32_t pid);

/// The subset of `sockets` that no process except PID 1 has a descriptor of; empty if that cannot
/// be determined. Descriptors in transit in a message between processes are not seen. Needs all
/// capabilities and reads every process in /proc, so it is meant for the unit gate, not for the
/// daemon.
[[nodiscard]] std::set<std::uint32_t> held_by_init_alone(std::set<std::uint32_t> sockets);

}  // namespace trireme::systemd
