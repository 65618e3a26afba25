// The TCP and UDP sockets of a cgroup, through sock_diag(7).
#pragma once

#include <cstdint>
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
};

class SocketTable {
 public:
  [[nodiscard]] static Result<SocketTable> open();
  /// Sockets that were created in exactly this cgroup, whatever their state. The kernel filters (INET_DIAG_BC_CGROUP_COND, Linux 5.9).
  [[nodiscard]] Result<std::vector<InetSocket>> of_cgroup(std::uint64_t cgroup_id);

 private:
  explicit SocketTable(Fd fd) : fd_(std::move(fd)) {}
  Status query(std::uint8_t family, std::uint8_t protocol, std::uint64_t cgroup_id, std::vector<InetSocket>& sockets);
  Fd fd_;
  std::uint32_t sequence_ = 0;
};

}  // namespace trireme::kernel
