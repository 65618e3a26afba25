// SPDX-License-Identifier: Apache-2.0
// Checks for features of the running kernel whose absence would otherwise show too late or not at
// all.
#pragma once

#include <string_view>
#include <utility>

#include "trireme/base/result.hpp"

namespace trireme::kernel {

/// The first two numbers of a kernel's version: (6, 1) of "6.1.0-18-amd64". (0, 0) if it has none.
[[nodiscard]] std::pair<int, int> release_version(std::string_view release);
/// The same of the running kernel. Errors: uname(2) fails.
[[nodiscard]] Result<std::pair<int, int>> running_version();

/// Checks that rules can match the cgroup of a packet's socket, with a table that the same
/// transaction removes. Errors: a kernel before Linux 5.13 or without CONFIG_NFT_SOCKET; no
/// nf_tables; no CAP_NET_ADMIN.
[[nodiscard]] Status probe_socket_cgroup();

/// Checks that NFQUEUE verdicts can set a packet's priority. Errors: a kernel before Linux 5.18.
[[nodiscard]] Status probe_queue_priority();

}  // namespace trireme::kernel
