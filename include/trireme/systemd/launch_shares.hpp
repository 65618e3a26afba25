// SPDX-License-Identifier: Apache-2.0
// How much of the room for numbers of cgroups each user's commands may hold. A command's number
// stays in the kernel until the last socket of its cgroup has gone, and a user with a grant can
// keep sockets of commands that have ended: without shares one user would take the room that
// everybody's workloads, and quarantine, need.
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
  /// What the kernel says.
  struct Room {
    /// Whether this cgroup, by its id, still holds a number.
    std::function<bool(std::uint64_t cgroup_id)> is_held;
    /// Whether more than half of all numbers are in use, by whomever.
    std::function<bool()> is_scarce;
  };
  using Clock = std::chrono::steady_clock;

  /// Commands of one user whose numbers are held at the same time.
  static constexpr std::size_t kShare = 8192;
  explicit LaunchShares(Room room, std::size_t share = kShare)
      : room_(std::move(room)), share_(share) {}

  /// Whether a user other than root may launch one more. What the user holds is looked through once
  /// a second at most.
  [[nodiscard]] Status permits(std::uint32_t uid, Clock::time_point now);
  void launched(std::uint32_t uid, std::uint64_t cgroup_id);

 private:
  struct Held {
    std::vector<std::uint64_t> cgroups;
    Clock::time_point looked{};
  };
  Room room_;
  std::size_t share_;
  std::map<std::uint32_t, Held> by_user_;  // those who hold none any more are dropped as they ask
};

}  // namespace trireme::systemd
