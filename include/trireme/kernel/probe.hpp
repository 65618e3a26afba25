// SPDX-License-Identifier: Apache-2.0
// What this kernel can do, beyond what an operation of its own would report.
#pragma once

#include "trireme/base/result.hpp"

namespace trireme::kernel {

/// Whether rules can match the cgroup of a packet's socket, tried in a table that is removed in the
/// same transaction. Errors: a kernel before 5.13, or without CONFIG_NFT_SOCKET; no nf_tables; no
/// CAP_NET_ADMIN.
[[nodiscard]] Status probe_socket_cgroup();

/// Whether verdicts of queues can set a packet's priority. Errors: a kernel before 5.18.
[[nodiscard]] Status probe_queue_priority();

}  // namespace trireme::kernel
