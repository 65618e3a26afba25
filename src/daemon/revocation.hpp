// SPDX-License-Identifier: Apache-2.0
// Revokes open connections that policy no longer allows, at every enforcement point.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "problems.hpp"
#include "trireme/base/event.hpp"
#include "trireme/points/points.hpp"

namespace trireme::daemon {

class Revocation {
 public:
  /// All references outlive this object. `is_settled`: false while the sources still find out who
  /// is a workload under the settings in force.
  Revocation(points::Points& points, Problems& problems, std::function<bool()> is_settled)
      : points_(points), problems_(problems), is_settled_(std::move(is_settled)) {}
  Revocation(const Revocation&) = delete;
  Revocation& operator=(const Revocation&) = delete;

  /// Errors: the event loop.
  [[nodiscard]] Status follow(sd_event* loop);

  /// Re-evaluates all open connections of these points, once. A point where that fails is tried
  /// again after a second, and reported as a problem until it succeeds.
  void look(const std::vector<points::Point*>& points);
  /// The same now and once more a moment later: a packet that was evaluated by the former policy
  /// may have authorized its flow in between. Each look reads every flow of the machine, so call it
  /// only if something changed.
  void look_twice(const std::vector<points::Point*>& points);
  /// The same after a load. A workload that the new settings release is one until its source has
  /// decided, and has the new policy already: its connections are closed only if they are not
  /// allowed then, but after five seconds in any case.
  void look_after_load(const std::vector<points::Point*>& points);
  /// True while connections are not to be closed yet, because of look_after_load(). Every point is
  /// looked at again when that is over. Must be called at the end of each turn of the loop: that is
  /// how this object learns that the sources have decided.
  [[nodiscard]] bool must_wait();

  /// Flows that have lost their authorization.
  [[nodiscard]] std::uint64_t count() const { return count_; }

 private:
  using Clock = std::chrono::steady_clock;
  void look_again();
  void await_next();

  points::Points& points_;
  Problems& problems_;
  std::function<bool()> is_settled_;
  Clock::time_point settled_by_;
  bool has_waited_ = false;  // must_wait() was true, and not every point was looked at since
  event::Timer timer_;
  std::map<handshake::PointId, Clock::time_point> due_;  // when each is looked at again
  std::map<handshake::PointId, Error> failed_;
  std::uint64_t count_ = 0;
};

}  // namespace trireme::daemon
