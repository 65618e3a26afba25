// SPDX-License-Identifier: Apache-2.0
// Reads packets that rules log to an nfnetlink_log group.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"
#include "trireme/kernel/conntrack.hpp"

namespace trireme::kernel {

struct LoggedPacket {
  std::string prefix;  // log prefix of the rule
  bool input = false;  // logged on INPUT, otherwise on OUTPUT
  bool loopback = false;
  std::uint8_t protocol = 0;  // IANA number
  FlowTuple tuple;            // from the packet's headers; ports are 0 if the protocol has none
  // ICMP and ICMPv6. `icmp_id` is that of an echo or another query, in host byte order.
  std::uint8_t icmp_type = 0;
  std::uint8_t icmp_code = 0;
  std::uint16_t icmp_id = 0;
};

class PacketLog {
 public:
  /// Binds the group in the current network namespace. Errors: another program has bound it; no
  /// CAP_NET_ADMIN; no nfnetlink_log.
  [[nodiscard]] static Result<PacketLog> open(std::uint16_t group);
  [[nodiscard]] int fd() const { return fd_.get(); }
  /// Reads pending packets, at most `limit`. Packets other than IP are skipped. Counts the times
  /// that the kernel dropped packets because its buffer was full. Never blocks.
  [[nodiscard]] std::vector<LoggedPacket> drain(std::size_t limit);
  /// How often the kernel reported dropped packets.
  [[nodiscard]] std::uint64_t lost() const { return lost_; }

 private:
  explicit PacketLog(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
  std::uint64_t lost_ = 0;
};

}  // namespace trireme::kernel
