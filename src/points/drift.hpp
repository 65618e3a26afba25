// SPDX-License-Identifier: Apache-2.0
// Keeps the table as the daemon wrote it. Rewrites it after another program changed it, or after
// the kernel refused a change.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "trireme/base/event.hpp"
#include "trireme/enforcer/enforcer.hpp"

namespace trireme::points {

class Drift {
 public:
  struct Handlers {
    std::function<void()> repaired;  // after each repair
    std::function<void()> changed;   // after another program has changed any table
  };
  /// Log lines use the rate limit of `owner`. All references must outlive this object. Errors: the
  /// event loop fails, or no netlink socket can be opened.
  [[nodiscard]] static Result<std::unique_ptr<Drift>> open(sd_event* loop,
                                                           enforcer::Enforcer& enforcer,
                                                           std::string owner, Handlers handlers);
  Drift(const Drift&) = delete;
  Drift& operator=(const Drift&) = delete;

  /// Rewrites the table if the kernel has refused a change. Like repairs after changes by other
  /// programs, at most once per second.
  void catch_up();

  /// The reason of the last failure if more than one attempt in a row failed; else empty.
  [[nodiscard]] std::string failure() const { return failures_ > 1 ? failure_ : ""; }
  [[nodiscard]] std::uint64_t repairs() const { return repairs_; }
  /// A line for 'trirectl status' while the table cannot be rewritten, and for ten minutes after a
  /// repair.
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
  bool due_ = false;       // a repair is scheduled
  std::string reason_;     // of the last repair, or of the scheduled one
  std::string failure_;    // why the last attempt failed; empty if it succeeded
  unsigned failures_ = 0;  // failed attempts in a row
  std::optional<Clock::time_point> tried_;
  std::uint64_t repairs_ = 0;
};

}  // namespace trireme::points
