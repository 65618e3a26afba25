// SPDX-License-Identifier: Apache-2.0
// Rate limit for log lines that an unprivileged user, a workload or a remote host can cause. The
// code calls admit() before it logs such a line. Lines that only root, the kernel or the daemon
// itself can cause are not limited.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "trireme/base/rate_shares.hpp"

namespace trireme {

/// In sum well below the 10,000 lines in 30 s that journald accepts from one service by default.
inline constexpr RateShares::Limits kLogLimits = {.each = {.burst = 100, .per_second = 5},
                                                  .together = {.burst = 200, .per_second = 20},
                                                  .reserve = {.burst = 1, .per_second = 0.1},
                                                  .reserves = {.burst = 40, .per_second = 5},
                                                  .owners = 1024};

/// Thread-safe.
class LogShares {
 public:
  using Clock = RateShares::Clock;

  explicit LogShares(const RateShares::Limits& limits = kLogLimits) : shares_(limits) {}

  /// True if one more line may be logged for `owner` ("uid 1000", "workload web", "10.0.0.1/32").
  /// If not, the line is counted as left out.
  [[nodiscard]] bool admit(std::string_view owner, Clock::time_point now = Clock::now());
  /// One line of text: how many lines were left out since the last call, and for which owners (the
  /// three with the most lines). Empty if none were. Resets the counts.
  [[nodiscard]] std::string take_summary();
  /// Lines left out since the process started.
  [[nodiscard]] std::uint64_t left_out() const;

 private:
  mutable std::mutex mutex_;
  RateShares shares_;
  std::map<std::string, std::uint64_t, std::less<>> counts_;  // since the last summary
  std::uint64_t others_ = 0;  // lines of owners for which `counts_` has no room
  std::uint64_t left_out_ = 0;
};

/// The instance of this process, which has one log.
[[nodiscard]] LogShares& log_shares();

/// Makes `text` safe for a log line: bytes other than printable ASCII become '?', and text beyond
/// `most` bytes is cut off and ends in "...".
[[nodiscard]] std::string loggable(std::string_view text, std::size_t most = 300);

}  // namespace trireme
