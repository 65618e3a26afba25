// SPDX-License-Identifier: Apache-2.0
// The sockets of one network namespace, for attributing connections to processes.
#pragma once

#include <memory>
#include <set>
#include <vector>

#include "trireme/kernel/netns.hpp"
#include "trireme/kernel/sockets.hpp"
#include "trireme/policy/live_ends.hpp"

namespace trireme::daemon {

struct SocketsHere {
  std::vector<kernel::InetSocket> tcp;  // connections and listeners
  std::vector<kernel::InetSocket> udp;
  std::set<policy::Address> addresses;  // of the network namespace
};

/// Null: the calling thread's network namespace. Errors: it cannot be entered; netlink fails.
[[nodiscard]] Result<SocketsHere> sockets_in(const std::shared_ptr<const kernel::Netns>& network);

/// The inode number; 0 for null, the daemon's own.
[[nodiscard]] std::uint64_t inode_of(const std::shared_ptr<const kernel::Netns>& network);

/// `owner`: as in policy::LiveSocket.
[[nodiscard]] policy::LiveSocket live_socket(const kernel::InetSocket& socket,
                                             std::uint64_t network, std::size_t owner);

}  // namespace trireme::daemon
