// SPDX-License-Identifier: Apache-2.0
// Readings of the logs of all enforcement points, one after another. Together they take a tenth of
// the loop's time, however many network namespaces are flooded.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>

#include "trireme/base/event.hpp"
#include "trireme/handshake/facts.hpp"

namespace trireme::points {

class LogTurns {
 public:
  /// Below everything that changes who may talk: a flood of refusals delays no enrollment.
  static constexpr std::int64_t kPriority = event::kNormal + 10;

  /// Before the first request. Errors: the event loop.
  [[nodiscard]] Status open(sd_event* loop);
  /// Calls `read` once: now, or after the pause that earlier readings have caused and after those
  /// that were requested before.
  void request(handshake::PointId reader, std::function<void()> read);
  /// Drops what `reader` has requested.
  void remove(handshake::PointId reader);

 private:
  using Clock = std::chrono::steady_clock;
  struct Waiting {
    handshake::PointId reader;
    std::function<void()> read;
  };
  void serve();

  std::deque<Waiting> waiting_;
  event::Timer rested_;
  bool is_resting_ = false;
  Clock::time_point free_;  // from then on the readings have taken a tenth of the time
};

}  // namespace trireme::points
