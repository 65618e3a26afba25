// SPDX-License-Identifier: Apache-2.0
// The main thread's event loop (sd-event) and its sources as owned values: the callback of a source
// is not called after its owner was destroyed. Use all of this on the loop's thread only; the loop
// must outlive its sources.
//
// arm(), disarm(), pause(), resume() and request() take effect or end the loop with an error: a
// timer that never fires would fail silently. They do nothing if the source is not open.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "trireme/base/result.hpp"

struct sd_event;

namespace trireme::event {

/// Priorities. If several sources are ready, lower numbers are called first.
inline constexpr std::int64_t kImportant = -100;
inline constexpr std::int64_t kNormal = 0;

/// How late a timer may fire. 250 ms let several timers share one wake-up of the processor.
inline constexpr std::chrono::microseconds kRelaxed{250'000};
inline constexpr std::chrono::microseconds kExact{1};

/// Common part of Io, Timer and Deferred. A callback may close its own source and may destroy the
/// source's owner.
class Source {
 public:
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  [[nodiscard]] bool is_open() const { return state_ != nullptr; }
  /// Removes the source from the loop at once. After it, the descriptor may be closed and its
  /// number reused.
  void close();

 protected:
  struct State;
  using Called = std::function<void(std::uint32_t events)>;

  Source() = default;
  ~Source() { close(); }
  Source(Source&& other) noexcept = default;
  Source& operator=(Source&& other) noexcept;
  /// Stores a new source and closes the previous one. `rc`: the result of creating it; if negative,
  /// an errno value, nothing is stored.
  [[nodiscard]] Status take(std::shared_ptr<State> made, int rc);

  std::shared_ptr<State> state_;
};

/// Watches a descriptor. The caller owns the descriptor and keeps it open.
class Io : public Source {
 public:
  /// `call` gets the events that are ready (EPOLLIN, ...).
  [[nodiscard]] Status open(sd_event* loop, int fd, std::uint32_t events, Called call,
                            std::int64_t priority = kNormal);
  /// Errors: the kernel is out of memory, or the descriptor was closed.
  [[nodiscard]] Status set_events(std::uint32_t events);
  /// No calls until resume().
  void pause();
  void resume();
};

/// Calls once each time that it is armed.
class Timer : public Source {
 public:
  /// The timer starts disarmed.
  [[nodiscard]] Status open(sd_event* loop, std::function<void()> call,
                            std::int64_t priority = kNormal,
                            std::chrono::microseconds accuracy = kRelaxed);
  /// Fires once `after` from now; replaces an earlier time. Zero or less: in the next turn of the
  /// loop.
  void arm(std::chrono::microseconds after);
  void disarm();
};

/// Calls once in the loop's next turn, no matter how often it was requested before.
class Deferred : public Source {
 public:
  [[nodiscard]] Status open(sd_event* loop, std::function<void()> call);
  void request();
};

class Loop {
 public:
  [[nodiscard]] static Result<Loop> create();
  ~Loop();
  Loop(Loop&& other) noexcept;
  Loop& operator=(Loop&& other) noexcept;

  [[nodiscard]] sd_event* get() const { return loop_; }
  /// Calls on a signal, which must be blocked in all threads, for the lifetime of the loop.
  [[nodiscard]] Status on_signal(int signal, std::function<void()> call);
  /// Calls after each turn in which a source was called, for the lifetime of the loop.
  [[nodiscard]] Status after_turns(std::function<void()> call);
  /// Sends keep-alive messages to systemd if the unit has WatchdogSec=.
  [[nodiscard]] Status feed_watchdog();
  /// Runs the loop until end(). Errors: a source or require() ended the loop with an error.
  [[nodiscard]] Status run();
  /// Runs one turn, which waits for events for at most `patience`.
  [[nodiscard]] Status run_once(std::chrono::microseconds patience);
  void end();

 private:
  struct Kept;
  explicit Loop(sd_event* loop);
  sd_event* loop_ = nullptr;
  std::unique_ptr<Kept> kept_;  // what on_signal() and after_turns() call
};

/// For constructors, which cannot return an error: logs it and ends the loop with it.
void require(sd_event* loop, const Status& opened);

/// CLOCK_MONOTONIC at the start of the current turn of the loop.
[[nodiscard]] std::chrono::microseconds now(sd_event* loop);

}  // namespace trireme::event
