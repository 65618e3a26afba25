// SPDX-License-Identifier: Apache-2.0
// Answers the method `traffic`: who talks to whom. All callers share one answer, which is built at
// most once a second. Sockets are read by a thread; what has to run in the daemon's loop does so in
// slices of a few milliseconds, with a lower priority than everything that makes decisions.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "traffic_reader.hpp"
#include "trireme/control/pair_totals.hpp"
#include "trireme/control/server.hpp"
#include "trireme/points/points.hpp"

namespace trireme::daemon {

class Daemon;

class Traffic {
 public:
  /// `daemon` must outlive this object. Errors: the event loop, no descriptor.
  [[nodiscard]] static Result<std::unique_ptr<Traffic>> open(sd_event* loop, Daemon& daemon);
  Traffic(const Traffic&) = delete;
  Traffic& operator=(const Traffic&) = delete;

  /// Answers at once from an answer of the last second, else when the next one is built.
  void answer(const control::Reply& reply);

 private:
  using Clock = std::chrono::steady_clock;
  enum class Phase : std::uint8_t {
    idle,
    listing,     // the workloads, for the reader
    reading,     // the reader's thread
    describing,  // the ends of what it has found
  };
  using Points = std::map<std::uint64_t, points::Point*>;  // by network namespace, the host's first

  explicit Traffic(Daemon& daemon) : daemon_(daemon) {}
  void go_on();
  void list_workloads();
  void take(Result<TrafficReading> reading);
  void describe();
  void describe(const TrafficGroup& group, const Points& points);
  [[nodiscard]] policy::FlowEnd end_of(const TrafficEnd& end, const TrafficEnd& other,
                                       const enforcer::Enforcer& enforcer) const;
  void compose();

  Daemon& daemon_;
  Clock::time_point since_ = Clock::now();
  Phase phase_ = Phase::idle;
  event::Timer turn_;
  std::unique_ptr<TrafficReader> reader_;
  std::vector<control::Reply> waiting_;

  Clock::time_point next_reading_;  // no earlier than this
  TrafficRequest request_;
  std::string listed_;  // the name of the last workload in `request_`
  TrafficReading reading_;
  std::size_t described_ = 0;  // of the groups in `reading_`
  std::map<control::PairTotals::Key, control::PairTotals::Open> open_;

  nlohmann::json answer_;  // null: none yet
  Clock::time_point answered_;
};

}  // namespace trireme::daemon
