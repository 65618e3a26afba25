// SPDX-License-Identifier: Apache-2.0
// Packets that rules log to an nfnetlink_log group.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"
#include "trireme/kernel/conntrack.hpp"

namespace trireme::kernel {

struct LoggedPacket {
  std::string prefix;  // of the rule
  bool input = false;  // logged on INPUT, else on OUTPUT
  bool loopback = false;
  std::uint8_t protocol = 0;
  FlowTuple tuple;  // as the packet says; ports 0 where the protocol has none
};

class PacketLog {
 public:
  /// Binds the group in the present network namespace. Errors: another program has it, no
  /// CAP_NET_ADMIN, no nfnetlink_log.
  [[nodiscard]] static Result<PacketLog> open(std::uint16_t group);
  [[nodiscard]] int fd() const { return fd_.get(); }
  /// What has arrived, at most `limit` packets. Packets that are no IP are left out; lost ones (the
  /// kernel's buffer was full) are counted.
  [[nodiscard]] std::vector<LoggedPacket> drain(std::size_t limit);
  [[nodiscard]] std::uint64_t lost() const { return lost_; }

 private:
  explicit PacketLog(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
  std::uint64_t lost_ = 0;
};

}  // namespace trireme::kernel
