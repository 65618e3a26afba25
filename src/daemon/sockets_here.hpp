// SPDX-License-Identifier: Apache-2.0
// The sockets of one network namespace, for attributing connections to processes.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "trireme/kernel/netns.hpp"
#include "trireme/kernel/sockets.hpp"
#include "trireme/policy/live_ends.hpp"
#include "trireme/policy/seen.hpp"

namespace trireme::daemon {

/// The local ports that the kernel chooses for clients: net.ipv4.ip_local_port_range.
struct EphemeralPorts {
  std::uint16_t first = 32768;
  std::uint16_t last = 60999;
  [[nodiscard]] bool contains(std::uint16_t port) const { return port >= first && port <= last; }
};
/// Reads the content of that file; Linux's default if it is something else.
[[nodiscard]] EphemeralPorts ephemeral_ports(const std::string& text);

struct SocketsHere {
  std::vector<kernel::InetSocket> tcp;  // connections and listeners
  std::vector<kernel::InetSocket> udp;
  std::set<policy::Address> addresses;  // of the network namespace
  EphemeralPorts ephemeral;
};

/// How long one request may read sockets of one network namespace after another in the daemon's
/// loop, where everything else waits meanwhile.
class ReadingTime {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kMost{2};
  explicit ReadingTime(Clock::duration most = kMost) : end_(Clock::now() + most) {}
  [[nodiscard]] bool is_over() const { return Clock::now() >= end_; }

 private:
  Clock::time_point end_;
};

/// Null: the calling thread's network namespace. Errors: it cannot be entered; netlink fails.
[[nodiscard]] Result<SocketsHere> sockets_in(const std::shared_ptr<const kernel::Netns>& network);

/// TCP alone: `udp` and `ephemeral` are left as they are.
[[nodiscard]] Result<SocketsHere> connections_in(
    const std::shared_ptr<const kernel::Netns>& network);

/// The addresses alone.
[[nodiscard]] Result<SocketsHere> addresses_in(const std::shared_ptr<const kernel::Netns>& network);

/// The inode number; 0 for null, the daemon's own.
[[nodiscard]] std::uint64_t inode_of(const std::shared_ptr<const kernel::Netns>& network);

/// `owner`: as in policy::LiveSocket.
[[nodiscard]] policy::LiveSocket live_socket(const kernel::InetSocket& socket,
                                             std::uint64_t network, std::size_t owner);

/// The addresses of each network namespace, by its inode number; 0: the daemon's own.
using AddressesByNetwork = std::map<std::uint64_t, std::set<policy::Address>>;

/// Whether the end at `address`, one of the two in `live.from_client`, has its socket in the
/// network namespace of the other end: without labels, it is @host there, and @world otherwise.
[[nodiscard]] bool is_beside(const policy::LiveConnection& live, const policy::Address& address,
                             const AddressesByNetwork& addresses);

/// Whether this is a query of a container to Docker's resolver in its own network namespace, which
/// passes under any policy: policy::is_resolver().
[[nodiscard]] bool is_to_resolver(std::uint64_t network, const policy::Address& destination);
[[nodiscard]] bool is_to_resolver(const policy::LiveConnection& live);

/// Equal for ends of flows that are counted as one.
[[nodiscard]] std::string kind_of(const policy::SeenFlow& flow, const policy::SeenEnd& end);

}  // namespace trireme::daemon
