// SPDX-License-Identifier: Apache-2.0
// Hears when another program changes nf_tables, and whether it was a table of ours.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"

namespace trireme::kernel {

class NftWatch {
 public:
  /// Follows inet table `table` of the present network namespace (NFNLGRP_NFTABLES). What comes
  /// from the netlink socket with the port `own_port` is not heard. Errors: no CAP_NET_ADMIN, no
  /// memory.
  [[nodiscard]] static Result<NftWatch> open(std::string table, std::uint32_t own_port);
  [[nodiscard]] int fd() const { return fd_.get(); }
  struct News {
    bool any = false;                // another program has changed something
    std::optional<std::string> who;  // changed the table, as "nft (pid 12)" or "another program"
  };
  /// Reads what has arrived. Where the kernel's buffer overflowed, it may have been anything.
  [[nodiscard]] News drain();

 private:
  NftWatch(Fd fd, std::string table) : fd_(std::move(fd)), table_(std::move(table)) {}
  Fd fd_;
  std::string table_;
};

}  // namespace trireme::kernel
