// SPDX-License-Identifier: Apache-2.0
// The main thread's loop (sd-event) and what it calls, as owned values: nothing is called whose
// owner is gone. All of it belongs to the loop's thread; the loop outlives what it calls.
//
// What is armed or changed here either takes effect or ends the loop with an error: a timer that
// never fires would fail in silence.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "trireme/base/result.hpp"

struct sd_event;

namespace trireme::event {

/// Lower numbers are called first.
inline constexpr std::int64_t kImportant = -100;
inline constexpr std::int64_t kNormal = 0;

/// How late a timer may be: a quarter of a second lets several share one wake-up.
inline constexpr std::chrono::microseconds kRelaxed{250'000};
inline constexpr std::chrono::microseconds kExact{1};

/// A descriptor that is watched. Its owner keeps it open.
class Io {
 public:
  /// With what is ready: EPOLLIN and so on. May close this, or destroy its owner.
  using Call = std::function<void(std::uint32_t events)>;

  [[nodiscard]] Status open(sd_event* loop, int fd, std::uint32_t events, Call call,
                            std::int64_t priority = kNormal);
  [[nodiscard]] bool is_open() const { return state_ != nullptr; }
  void close() { state_.reset(); }
  // Of one that is open.
  void set_events(std::uint32_t events);
  /// Not called until resume().
  void pause();
  void resume();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// Calls once each time it is armed.
class Timer {
 public:
  using Call = std::function<void()>;

  /// Not armed.
  [[nodiscard]] Status open(sd_event* loop, Call call, std::int64_t priority = kNormal,
                            std::chrono::microseconds accuracy = kRelaxed);
  [[nodiscard]] bool is_open() const { return state_ != nullptr; }
  void close() { state_.reset(); }
  // Of one that is open.
  /// From now on, whenever it was due before. At least one microsecond.
  void arm(std::chrono::microseconds after);
  void disarm();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// Calls in the loop's next turn, however often it was asked for in this one.
class Deferred {
 public:
  [[nodiscard]] Status open(sd_event* loop, std::function<void()> call);
  void request();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

class Loop {
 public:
  [[nodiscard]] static Result<Loop> create();
  ~Loop();
  Loop(Loop&& other) noexcept;
  Loop& operator=(Loop&& other) noexcept;

  [[nodiscard]] sd_event* get() const { return loop_; }
  /// Of a signal that is blocked in all threads. For as long as the loop lives.
  [[nodiscard]] Status on_signal(int signal, std::function<void()> call);
  /// After each turn in which something was called. For as long as the loop lives.
  [[nodiscard]] Status after_turns(std::function<void()> call);
  /// Tells systemd that this process is alive, where its unit wants that.
  [[nodiscard]] Status feed_watchdog();
  /// Until end().
  [[nodiscard]] Status run();
  /// One turn, which waits at most so long.
  [[nodiscard]] Status run_once(std::chrono::microseconds patience);
  void end();

 private:
  struct Kept;
  explicit Loop(sd_event* loop);
  sd_event* loop_ = nullptr;
  std::unique_ptr<Kept> kept_;  // what on_signal() and after_turns() call
};

/// For constructors: ends the loop with the error, if there is one.
void require(sd_event* loop, const Status& opened);

/// CLOCK_MONOTONIC as the present turn of the loop has it.
[[nodiscard]] std::chrono::microseconds now(sd_event* loop);

}  // namespace trireme::event
