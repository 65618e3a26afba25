// SPDX-License-Identifier: Apache-2.0
// Notices when another program changes nf_tables, and whether it changed the table of trireme.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"

namespace trireme::kernel {

class NftWatch {
 public:
  /// Subscribes to changes in the current network namespace (NFNLGRP_NFTABLES). `table`: the inet
  /// table to watch. Changes by the netlink socket with port id `own_port` are ignored. Errors: no
  /// CAP_NET_ADMIN; no memory.
  [[nodiscard]] static Result<NftWatch> open(std::string table, std::uint32_t own_port);
  [[nodiscard]] int fd() const { return fd_.get(); }
  struct News {
    bool any = false;                // another program changed something in nf_tables
    std::optional<std::string> who;  // who changed the table: "nft (pid 12)" or "another program"
  };
  /// Reads all pending notifications. If the kernel dropped some, reports a change of the table by
  /// "another program", because it cannot be excluded. Never blocks.
  [[nodiscard]] News drain();

 private:
  NftWatch(Fd fd, std::string table) : fd_(std::move(fd)), table_(std::move(table)) {}
  Fd fd_;
  std::string table_;
};

}  // namespace trireme::kernel
