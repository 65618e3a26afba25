// SPDX-License-Identifier: Apache-2.0
// The kernel's counters of each NFQUEUE of a network namespace.
#pragma once

#include <cstdint>
#include <vector>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"

namespace trireme::kernel {

struct QueueCounter {
  std::uint16_t number = 0;
  std::uint32_t waiting = 0;  // packets without a verdict
  std::uint64_t dropped = 0;  // since the queue was bound: queue or socket buffer was full
};

class QueueCounters {
 public:
  /// For the current network namespace; read() may be called in another one. Errors: no
  /// nfnetlink_queue; the file belongs to another user namespace.
  [[nodiscard]] static Result<QueueCounters> open();

  /// All queues that are bound, by any program. Reads a file: do not call it for every packet.
  [[nodiscard]] std::vector<QueueCounter> read() const;

 private:
  explicit QueueCounters(Fd file) : file_(std::move(file)) {}
  Fd file_;
};

}  // namespace trireme::kernel
