// SPDX-License-Identifier: Apache-2.0
// Periodic work for the gate: reports the packets that it refused, checks its cgroup numbers, and
// checks that stamps survive on lo.
#pragma once

#include <functional>
#include <memory>

#include "canary.hpp"
#include "problems.hpp"
#include "trireme/base/event.hpp"
#include "trireme/enforcer/local_policy.hpp"

namespace trireme::daemon {

class LocalWatch {
 public:
  /// Called for each refusal, to add it to the flow log.
  using OnRefused = std::function<void(const gate::Refused&)>;
  /// All references must outlive this object. Errors: the event loop fails.
  [[nodiscard]] static Result<std::unique_ptr<LocalWatch>> create(sd_event* loop,
                                                                  enforcer::LocalPolicy& local,
                                                                  Problems& problems,
                                                                  OnRefused on_refused);
  LocalWatch(const LocalWatch&) = delete;
  LocalWatch& operator=(const LocalWatch&) = delete;

  /// Called after another program has changed its rules.
  void send_canary();

 private:
  LocalWatch(enforcer::LocalPolicy& local, Problems& problems, OnRefused on_refused)
      : local_(local), problems_(problems), on_refused_(std::move(on_refused)) {}
  [[nodiscard]] Status open(sd_event* loop);
  void take_refused();
  void look_through();

  enforcer::LocalPolicy& local_;
  Problems& problems_;
  std::unique_ptr<Canary> canary_;  // null if its sockets cannot be opened
  OnRefused on_refused_;
  event::Io readable_;
  event::Timer round_;
};

}  // namespace trireme::daemon
