// SPDX-License-Identifier: Apache-2.0
// Netlink sockets: the only place that receives from one, but for the queues' packets
// (queue.cpp). A receive is repeated after a signal, and datagrams that other processes have sent
// are skipped.
#pragma once

#include <linux/netlink.h>

#include <cstdint>
#include <functional>
#include <span>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"

namespace trireme::kernel::netlink {

/// Called for each message. Its payload can be shorter than its type promises.
using Each = std::function<void(const nlmsghdr*)>;

/// Opens and binds a socket of `protocol` (NETLINK_*). `purpose` completes the error "cannot open a
/// netlink socket to ...". `flags`: SOCK_NONBLOCK or 0.
[[nodiscard]] Result<Fd> open(int protocol, const char* purpose, int flags = 0);

enum class Wait : std::uint8_t { no, yes };
enum class Received : std::uint8_t {
  messages,
  nothing,  // no datagram waits, and the caller or the socket does not wait for one
  overrun,  // messages are lost: the receive buffer was full, or `buffer` too small
};
/// Receives one datagram of the kernel into `buffer` and calls `each` for its messages. Errors: the
/// system call.
[[nodiscard]] Result<Received> receive(const Fd& socket, std::span<char> buffer, Wait wait,
                                       const Each& each);

/// Sends a request, whose sequence number is overwritten, and calls `each` for all messages of its
/// answer: up to the end of the list with NLM_F_DUMP, up to the acknowledgement with NLM_F_ACK,
/// else one. `buffer`: 8 KiB at least for an answer of one message. Returns false if the kernel
/// reports that the list changed while it was read (NLM_F_DUMP_INTR). Errors: "what: ...", with the
/// kernel's code. `others` is called for messages that are not of this answer.
[[nodiscard]] Result<bool> ask(const Fd& socket, nlmsghdr* request, std::span<char> buffer,
                               const char* what, const Each& each, const Each& others = {});

/// Sends a request with NLM_F_ACK and reads its acknowledgement. Errors as above.
[[nodiscard]] Status confirm(const Fd& socket, nlmsghdr* request, const char* what);

}  // namespace trireme::kernel::netlink
