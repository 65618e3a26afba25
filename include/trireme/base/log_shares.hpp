// SPDX-License-Identifier: Apache-2.0
// Limits on log lines that a user without privileges, a workload or a remote host can cause. Every
// such line asks first; lines that only root, the kernel or the daemon itself can cause do not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "trireme/base/rate_shares.hpp"

namespace trireme {

/// Together they stay well below the 10,000 lines in 30 s that journald takes from one service.
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

  /// True if one more line may be written for `owner` ("uid 1000", "workload web",
  /// "10.0.0.1/32"). Lines that may not are counted.
  [[nodiscard]] bool admit(std::string_view owner, Clock::time_point now = Clock::now());
  /// The lines left out since the last call, as one line for people that names the owners with
  /// most of them; empty if there were none. Starts counting again.
  [[nodiscard]] std::string take_summary();
  /// Lines left out so far.
  [[nodiscard]] std::uint64_t left_out() const;

 private:
  mutable std::mutex mutex_;
  RateShares shares_;
  std::map<std::string, std::uint64_t, std::less<>> counts_;  // since the last summary
  std::uint64_t others_ = 0;  // of owners that `counts_` has no room for
  std::uint64_t left_out_ = 0;
};

/// Those of this process, as it has one log.
[[nodiscard]] LogShares& log_shares();

/// `text` for a log line: printable ASCII, everything else as '?', and at most `most` bytes, with
/// "..." in place of what was cut.
[[nodiscard]] std::string loggable(std::string_view text, std::size_t most = 300);

}  // namespace trireme
