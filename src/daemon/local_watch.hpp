// SPDX-License-Identifier: Apache-2.0
// What the event loop does for the gate between changes: tells what it has refused, looks through
// the numbers of cgroups, and whether stamps arrive.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>

#include "canary.hpp"
#include "problems.hpp"
#include "trireme/base/event.hpp"
#include "trireme/enforcer/local_policy.hpp"

namespace trireme::daemon {

class LocalWatch {
 public:
  /// Takes a refusal into the flow log.
  using Tell = std::function<void(const gate::Refused&)>;
  /// All references outlive this object. Errors: the event loop.
  [[nodiscard]] static Result<std::unique_ptr<LocalWatch>> create(sd_event* loop,
                                                                  enforcer::LocalPolicy& local,
                                                                  Problems& problems, Tell tell);
  LocalWatch(const LocalWatch&) = delete;
  LocalWatch& operator=(const LocalWatch&) = delete;

  /// After rules of others have changed.
  void send_canary();

 private:
  LocalWatch(enforcer::LocalPolicy& local, Problems& problems, Tell tell)
      : local_(local), problems_(problems), tell_(std::move(tell)) {}
  [[nodiscard]] Status open(sd_event* loop);
  void take_refused();
  void report();
  void look_through();

  enforcer::LocalPolicy& local_;
  Problems& problems_;
  std::unique_ptr<Canary> canary_;  // null where there is no socket for it
  Tell tell_;
  struct Waiting {
    std::chrono::steady_clock::time_point due;
    gate::Refused refused;
  };
  void report_soon();
  std::deque<Waiting> waiting_;  // to be reported a moment later
  event::Io readable_;
  event::Timer report_;
  event::Timer round_;
};

}  // namespace trireme::daemon
