// SPDX-License-Identifier: Apache-2.0
// A rate limit with a share for each owner (a user, a workload, a remote host), so that one owner
// cannot use up the common limit.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

namespace trireme {

/// A token bucket: `burst` at once, `per_second` in the long run.
struct Rate {
  double burst = 0;
  double per_second = 0;
};

class RateShares {
 public:
  using Clock = std::chrono::steady_clock;

  struct Limits {
    Rate each;      // for one owner
    Rate together;  // for all owners in sum
    Rate reserve;   // for one owner while `together` is used up; counts against `each` as well
    /// For all reserves in sum. Needed if owners can be forged, such as addresses: otherwise the
    /// rate would grow with their number.
    Rate reserves = {.burst = 1e9, .per_second = 1e9};
    std::size_t owners = 0;  // tracked separately; all others share one bucket
  };
  explicit RateShares(const Limits& limits)
      : limits_(limits), together_(limits.together.burst), reserves_(limits.reserves.burst) {}

  /// Takes one token from the owner's share. Returns false and takes nothing if a limit is reached.
  [[nodiscard]] bool take(std::string_view owner, Clock::time_point now);
  [[nodiscard]] std::size_t owners() const { return owners_.size(); }

 private:
  struct Bucket {
    explicit Bucket(double full) : tokens(full) {}
    void refill(const Rate& rate, Clock::time_point now);
    double tokens;
    Clock::time_point filled{};
  };
  struct Owner {
    explicit Owner(const Limits& limits)
        : share(limits.each.burst), reserve(limits.reserve.burst) {}
    Bucket share;
    Bucket reserve;
  };
  [[nodiscard]] Owner& find(std::string_view owner, Clock::time_point now);
  void forget_idle(Clock::time_point now);

  Limits limits_;
  Bucket together_;
  Bucket reserves_;
  std::unordered_map<std::string, Owner> owners_;
  Clock::time_point swept_{};
};

}  // namespace trireme
