// SPDX-License-Identifier: Apache-2.0
// What the kernel counts for each NFQUEUE of a network namespace.
#pragma once

#include <cstdint>
#include <vector>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"

namespace trireme::kernel {

struct QueueCounter {
  std::uint16_t number = 0;
  std::uint32_t waiting = 0;  // packets that have no verdict yet
  std::uint64_t dropped = 0;  // since the queue was bound: it was full, or its socket's buffer
};

class QueueCounters {
 public:
  /// Of the present network namespace, wherever they are read later. Errors: no nfnetlink_queue.
  [[nodiscard]] static Result<QueueCounters> open();

  /// Every queue that has a listener, any program's. Reads a file: not for every packet.
  [[nodiscard]] std::vector<QueueCounter> read() const;

 private:
  explicit QueueCounters(Fd file) : file_(std::move(file)) {}
  Fd file_;
};

}  // namespace trireme::kernel
