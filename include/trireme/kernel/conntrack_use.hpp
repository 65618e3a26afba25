// SPDX-License-Identifier: Apache-2.0
// The number of conntrack entries of a network namespace, and its limit.
#pragma once

#include <cstdint>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"

namespace trireme::kernel {

class ConntrackUse {
 public:
  struct Count {
    std::uint64_t entries = 0;
    std::uint64_t most = 0;  // net.netfilter.nf_conntrack_max
  };

  /// For the current network namespace; read() may be called in another one. Errors: no netlink
  /// socket.
  [[nodiscard]] static Result<ConntrackUse> open();
  /// Errors: netlink fails; a kernel before Linux 4.18, which does not report the limit.
  [[nodiscard]] Result<Count> read();

 private:
  explicit ConntrackUse(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
};

}  // namespace trireme::kernel
