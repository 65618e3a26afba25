// SPDX-License-Identifier: Apache-2.0
// Checks for features of the running kernel whose absence would otherwise show too late or not at
// all.
#pragma once

#include "trireme/base/result.hpp"

namespace trireme::kernel {

/// Checks that rules can match the cgroup of a packet's socket, with a table that the same
/// transaction removes. Errors: a kernel before Linux 5.13 or without CONFIG_NFT_SOCKET; no
/// nf_tables; no CAP_NET_ADMIN.
[[nodiscard]] Status probe_socket_cgroup();

/// Checks that NFQUEUE verdicts can set a packet's priority. Errors: a kernel before Linux 5.18.
[[nodiscard]] Status probe_queue_priority();

}  // namespace trireme::kernel
