// SPDX-License-Identifier: Apache-2.0
#include "trireme/points/log_turns.hpp"

#include <algorithm>
#include <utility>

namespace trireme::points {
namespace {

/// Each reading asks the kernel for everything that it has refused lately. Pauses leave a tenth of
/// the time to the readings, and each is short enough for what the kernel logs meanwhile to fit the
/// socket.
constexpr int kReadPauses = 9;
constexpr std::chrono::milliseconds kShortest(1);  // below it, there is no pause
constexpr std::chrono::milliseconds kLongest(100);

}  // namespace

Status LogTurns::open(sd_event* loop) {
  return rested_.open(
      loop, [this] { serve(); }, kPriority, event::kExact);
}

void LogTurns::request(handshake::PointId reader, std::function<void()> read) {
  waiting_.push_back({.reader = reader, .read = std::move(read)});
  if (!is_resting_) {
    serve();
  }
}

void LogTurns::remove(handshake::PointId reader) {
  std::erase_if(waiting_, [reader](const Waiting& waiting) { return waiting.reader == reader; });
}

/// One reading, so that each turn of the loop has at most one.
void LogTurns::serve() {
  is_resting_ = false;
  if (waiting_.empty()) {
    return;
  }
  const Waiting next = std::move(waiting_.front());
  waiting_.pop_front();
  const auto began = Clock::now();
  next.read();
  const auto now = Clock::now();
  free_ = std::min<Clock::time_point>(std::max(free_, now) + kReadPauses * (now - began),
                                      now + kLongest);
  if (free_ - now > kShortest || !waiting_.empty()) {
    is_resting_ = true;
    rested_.arm(std::chrono::duration_cast<std::chrono::microseconds>(
        free_ - now > kShortest ? free_ - now : Clock::duration::zero()));
  }
}

}  // namespace trireme::points
