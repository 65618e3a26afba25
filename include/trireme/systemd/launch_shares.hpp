// SPDX-License-Identifier: Apache-2.0
// Limits how many workload numbers the commands of each user may occupy. A number stays in the
// kernel until the last socket of the command's cgroup is closed, and a user with a grant can keep
// sockets of commands that have ended. Without shares, one user could use up the numbers that all
// other workloads, and quarantine, need.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "trireme/base/result.hpp"

namespace trireme::systemd {

class LaunchShares {
 public:
  /// Queries of the kernel's state.
  struct Room {
    /// True if the cgroup with this id still occupies a number.
    std::function<bool(std::uint64_t cgroup_id)> is_held;
    /// True if more than half of all numbers are in use, by any user.
    std::function<bool()> is_scarce;
  };
  using Clock = std::chrono::steady_clock;

  /// The number of commands of one user that may occupy numbers at the same time.
  static constexpr std::size_t kShare = 8192;
  explicit LaunchShares(Room room, std::size_t share = kShare)
      : room_(std::move(room)), share_(share) {}

  /// Succeeds if the user, who is not root, may launch one more command. The list of numbers that
  /// the user occupies is cleaned up at most once a second.
  [[nodiscard]] Status permits(std::uint32_t uid, Clock::time_point now);
  void launched(std::uint32_t uid, std::uint64_t cgroup_id);

 private:
  struct Held {
    std::vector<std::uint64_t> cgroups;
    Clock::time_point looked{};
  };
  Room room_;
  std::size_t share_;
  std::map<std::uint32_t, Held> by_user_;  // cgroups that hold no number are removed on demand
};

}  // namespace trireme::systemd
