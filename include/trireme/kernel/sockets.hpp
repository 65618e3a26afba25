// SPDX-License-Identifier: Apache-2.0
// TCP and UDP sockets through sock_diag(7): the sockets of a cgroup, all connections, and one
// connection by its endpoints.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <unordered_set>
#include <vector>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"
#include "trireme/policy/address.hpp"

struct inet_diag_msg;
struct nlmsghdr;

namespace trireme::kernel {

/// Ports are in host byte order; the remote port of an unconnected socket is 0. IPv4-mapped
/// addresses are given as IPv4.
struct InetSocket {
  std::uint8_t protocol = 0;  // IANA number
  policy::Address local;
  policy::Address remote;
  std::uint16_t local_port = 0;
  std::uint16_t remote_port = 0;
  std::uint32_t inode = 0;                   // 0: no process has a descriptor of it
  std::uint64_t cgroup_id = 0;               // cgroup in which it was created; 0: unknown
  std::array<std::uint32_t, 2> cookie = {};  // unique id among sockets with the same endpoints
  /// TCP: bytes that the peer has acknowledged and that it has sent, without headers and repeats.
  /// Only from connections_with_bytes().
  std::optional<std::uint64_t> bytes = std::nullopt;
  [[nodiscard]] std::uint64_t whole_cookie() const {
    return std::uint64_t{cookie[1]} << 32U | cookie[0];
  }
};

enum class TcpState : std::uint8_t {
  none,       // no socket, or only a TIME_WAIT socket
  half_open,  // a request socket (SYN received), or the listener that would accept the connection
  open,       // a connection, also one that its process has closed but TCP has not finished
};

struct TcpSocket {
  TcpState state = TcpState::none;
  std::uint64_t cookie = 0;  // unique id among sockets that have these endpoints in succession
};

class SocketTable {
 public:
  /// For the current network namespace. Errors: no netlink socket.
  [[nodiscard]] static Result<SocketTable> open();
  /// Sockets in any state that were created in exactly this cgroup, not in its descendants. The
  /// kernel filters them (INET_DIAG_BC_CGROUP_COND, Linux 5.9).
  [[nodiscard]] Result<std::vector<InetSocket>> of_cgroup(std::uint64_t cgroup_id);
  /// The same for several cgroups, with a single listing of all sockets.
  [[nodiscard]] Result<std::vector<InetSocket>> of_cgroups(
      const std::unordered_set<std::uint64_t>& cgroup_ids);
  /// All TCP connections: no listeners, request sockets or TIME_WAIT sockets. A connection that its
  /// process has closed is listed until TCP has finished it, possibly without a cgroup.
  [[nodiscard]] Result<std::vector<InetSocket>> connections();
  /// connections() without those that wait for the server's answer, and the TCP sockets that
  /// listen.
  [[nodiscard]] Result<std::vector<InetSocket>> connections_and_listeners();
  /// connections_and_listeners(), with InetSocket::bytes (INET_DIAG_INFO). The kernel waits for the
  /// lock of each socket, which a process can hold as long as it likes, and the caller cannot be
  /// killed meanwhile; before Linux 6.9 all other users of sock_diag wait too. For a process that
  /// does nothing else.
  [[nodiscard]] Result<std::vector<InetSocket>> connections_with_bytes();
  /// All UDP sockets.
  [[nodiscard]] Result<std::vector<InetSocket>> datagram_sockets();
  /// Aborts a connection (SOCK_DESTROY): its process gets ECONNABORTED, the other end a reset. One
  /// that no longer exists is no error. Errors: a kernel without CONFIG_INET_DIAG_DESTROY.
  [[nodiscard]] Status destroy(const InetSocket& connection);
  /// The TCP socket with these endpoints. `device`: ifindex of the device on which its packets
  /// arrive.
  [[nodiscard]] Result<TcpSocket> find_connection(const InetSocket& ends, std::uint32_t device);
  /// The user who owns the TCP socket with these endpoints. Nullopt if there is no such socket, or
  /// if no process has it any more: the kernel then gives 0, which is not who created it.
  [[nodiscard]] Result<std::optional<std::uint32_t>> owner_of(const InetSocket& ends);

 private:
  explicit SocketTable(Fd fd) : fd_(std::move(fd)) {}
  Result<std::vector<InetSocket>> list(std::optional<std::uint64_t> cgroup_id);
  Status find(const InetSocket& ends, std::uint32_t device,
              const std::function<void(const inet_diag_msg&)>& on_found);
  Result<std::vector<InetSocket>> list_tcp(std::uint32_t states, std::uint8_t extensions = 0);
  Status query(std::uint8_t family, std::uint8_t protocol, std::optional<std::uint64_t> cgroup_id,
               std::vector<InetSocket>& sockets);
  Status read_list(nlmsghdr* request, std::uint8_t protocol, std::vector<InetSocket>& sockets);
  Fd fd_;
};

}  // namespace trireme::kernel
