// SPDX-License-Identifier: Apache-2.0
// TCP and UDP sockets, through sock_diag(7): those of a cgroup, connections, and one by its ends.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <unordered_set>
#include <vector>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"
#include "trireme/policy/address.hpp"

namespace trireme::kernel {

/// Ports in host order; an unconnected socket has remote port 0. IPv4-mapped addresses are IPv4.
struct InetSocket {
  std::uint8_t protocol = 0;
  policy::Address local;
  policy::Address remote;
  std::uint16_t local_port = 0;
  std::uint16_t remote_port = 0;
  std::uint32_t inode = 0;                   // 0: no descriptor of a process refers to it
  std::uint64_t cgroup_id = 0;               // in which it was made; of connections()
  std::array<std::uint32_t, 2> cookie = {};  // which of the sockets with these ends; ditto
  [[nodiscard]] std::uint64_t whole_cookie() const {
    return std::uint64_t{cookie[1]} << 32U | cookie[0];
  }
};

enum class TcpState : std::uint8_t {
  none,       // nothing, or what TIME_WAIT keeps
  half_open,  // a request, or the listener that would take one
  open,       // a connection, also one that its process has closed and that is not over
};

struct TcpSocket {
  TcpState state = TcpState::none;
  std::uint64_t cookie = 0;  // which of the sockets that have these ends one after the other
};

class SocketTable {
 public:
  [[nodiscard]] static Result<SocketTable> open();
  /// Sockets that were created in exactly this cgroup, whatever their state. The kernel filters
  /// (INET_DIAG_BC_CGROUP_COND, Linux 5.9).
  [[nodiscard]] Result<std::vector<InetSocket>> of_cgroup(std::uint64_t cgroup_id);
  /// The same of several cgroups, in one look, however many they are.
  [[nodiscard]] Result<std::vector<InetSocket>> of_cgroups(
      const std::unordered_set<std::uint64_t>& cgroup_ids);
  /// Every TCP connection: neither listeners, nor requests, nor what TIME_WAIT keeps. One that its
  /// process has closed is listed until it is over, perhaps without a cgroup.
  [[nodiscard]] Result<std::vector<InetSocket>> connections();
  /// Ends a connection, as if its process had (SOCK_DESTROY): it gets ECONNABORTED, the other end a
  /// reset. One that has gone is fine. Errors: a kernel without CONFIG_INET_DIAG_DESTROY.
  [[nodiscard]] Status destroy(const InetSocket& connection);
  /// What TCP has for these ends. `device` is where its packets come in (ifindex).
  [[nodiscard]] Result<TcpSocket> find_connection(const InetSocket& ends, std::uint32_t device);

 private:
  explicit SocketTable(Fd fd) : fd_(std::move(fd)) {}
  Result<std::vector<InetSocket>> list(std::optional<std::uint64_t> cgroup_id);
  Status query(std::uint8_t family, std::uint8_t protocol, std::optional<std::uint64_t> cgroup_id,
               std::vector<InetSocket>& sockets);
  Status read_list(std::uint8_t protocol, std::vector<InetSocket>& sockets);
  Fd fd_;
  std::uint32_t sequence_ = 0;
};

}  // namespace trireme::kernel
