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

  /// Answers at once if the last answer is of a request that came less than a second ago, else when
  /// the next one is built.
  void answer(const control::Reply& reply);

 private:
  using Clock = std::chrono::steady_clock;
  enum class Phase : std::uint8_t {
    idle,
    listing,     // the workloads, for the reader
    reading,     // the reader's thread
    describing,  // the ends of what it has found
    adding,      // to the totals of pairs
  };

  explicit Traffic(Daemon& daemon) : daemon_(daemon) {}
  void begin(Phase phase);
  void go_on();
  [[nodiscard]] bool list_workloads();
  void take(Result<TrafficReading> reading);
  [[nodiscard]] bool describe();
  void describe(const TrafficGroup& group);
  [[nodiscard]] bool add();
  void finish();
  [[nodiscard]] std::optional<policy::FlowEnd> end_of(const TrafficEnd& end,
                                                      const TrafficEnd& other,
                                                      const enforcer::Enforcer& enforcer) const;
  [[nodiscard]] nlohmann::json identities();
  [[nodiscard]] nlohmann::json pairs();
  void compose();

  Daemon& daemon_;
  Clock::time_point since_ = Clock::now();
  Phase phase_ = Phase::idle;
  event::Timer turn_;
  std::unique_ptr<TrafficReader> reader_;
  std::vector<control::Reply> waiting_;

  Clock::time_point asked_;         // when the request came that began the last answer
  Clock::time_point next_reading_;  // no earlier than this
  Clock::duration worked_{};        // in the loop, for this reading
  TrafficRequest request_;
  std::string listed_;  // the name of the last workload in `request_`
  TrafficReading reading_;
  std::optional<Error> unread_ = Error{"connections were not read yet", ""};  // until they are
  std::size_t described_ = 0;  // of the groups in `reading_`
  std::map<control::PairTotals::Key, control::PairTotals::Open> open_;

  std::size_t identities_left_out_ = 0;
  std::size_t pairs_left_out_ = 0;
  control::Reply::Line answer_;  // null: none yet
};

}  // namespace trireme::daemon
