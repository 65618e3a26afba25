// SPDX-License-Identifier: Apache-2.0
// Keeps the table as the daemon wrote it: what another program changed in it, or the kernel refused
// to take, is written anew.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "trireme/base/event.hpp"
#include "trireme/enforcer/enforcer.hpp"

namespace trireme::daemon {

class Drift {
 public:
  struct Handlers {
    std::function<void()> repaired;  // after each repair
    std::function<void()> changed;   // after another program has changed any table
  };
  /// Log lines take the share of `owner`. All references outlive this object. Errors: the event
  /// loop, no netlink socket.
  [[nodiscard]] static Result<std::unique_ptr<Drift>> open(sd_event* loop,
                                                           enforcer::Enforcer& enforcer,
                                                           std::string owner, Handlers handlers);
  Drift(const Drift&) = delete;
  Drift& operator=(const Drift&) = delete;

  /// Repairs what the kernel has refused; at most once a second, as with changes by others.
  void catch_up();

  /// Why the last attempts failed, where more than one did; else empty.
  [[nodiscard]] std::string failure() const { return failures_ > 1 ? failure_ : ""; }
  [[nodiscard]] std::uint64_t repairs() const { return repairs_; }
  /// A line for 'trirectl status': while the table is not as it should be, and for ten minutes
  /// after.
  [[nodiscard]] std::optional<std::string> problem() const;

 private:
  using Clock = std::chrono::steady_clock;

  Drift(enforcer::Enforcer& enforcer, kernel::NftWatch watch, std::string owner, Handlers handlers)
      : enforcer_(enforcer),
        watch_(std::move(watch)),
        owner_(std::move(owner)),
        handlers_(std::move(handlers)) {}
  [[nodiscard]] Status follow(sd_event* loop);
  void look();
  void repair_soon(const std::string& reason);
  void repair();

  enforcer::Enforcer& enforcer_;
  kernel::NftWatch watch_;
  std::string owner_;
  Handlers handlers_;
  event::Io readable_;
  event::Timer timer_;
  bool due_ = false;     // a repair is to be made, now or by the timer
  std::string reason_;   // of the last repair, or the one that is due
  std::string failure_;  // why the last attempt failed; empty where it did not
  unsigned failures_ = 0;
  std::optional<Clock::time_point> tried_;
  std::uint64_t repairs_ = 0;
};

}  // namespace trireme::daemon
