// SPDX-License-Identifier: Apache-2.0
// How full conntrack's table is: entries of one network namespace, and how many there may be.
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

  /// Of the present network namespace, wherever read() is called. Errors: no netlink socket.
  [[nodiscard]] static Result<ConntrackUse> open();
  /// Errors: the kernel does not tell (before Linux 4.18 not how many there may be).
  [[nodiscard]] Result<Count> read();

 private:
  explicit ConntrackUse(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
};

}  // namespace trireme::kernel
