// SPDX-License-Identifier: Apache-2.0
// The main thread's loop (sd-event) and what it calls, as owned values: nothing is called whose
// owner is gone. All of it belongs to the loop's thread; the loop outlives what it calls.
//
// What is armed or resumed either takes effect or ends the loop with an error: a timer that never
// fires would fail in silence. On a source that is not open these functions do nothing.
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

/// What Io, Timer and Deferred have in common. What is called may close its source, or destroy the
/// source's owner.
class Source {
 public:
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  [[nodiscard]] bool is_open() const { return state_ != nullptr; }
  /// Out of the loop at once: a descriptor may be closed then, and its number used again.
  void close();

 protected:
  struct State;
  using Called = std::function<void(std::uint32_t events)>;

  Source() = default;
  ~Source() { close(); }
  Source(Source&& other) noexcept = default;
  Source& operator=(Source&& other) noexcept;
  /// `rc` is what became of it; a former source is closed.
  [[nodiscard]] Status take(std::shared_ptr<State> made, int rc);

  std::shared_ptr<State> state_;
};

/// A descriptor that is watched. Its owner keeps it open.
class Io : public Source {
 public:
  /// `call` gets what is ready: EPOLLIN and so on.
  [[nodiscard]] Status open(sd_event* loop, int fd, std::uint32_t events, Called call,
                            std::int64_t priority = kNormal);
  /// Errors: the kernel has no room, or the descriptor is gone.
  [[nodiscard]] Status set_events(std::uint32_t events);
  /// Not called until resume().
  void pause();
  void resume();
};

/// Calls once each time it is armed.
class Timer : public Source {
 public:
  /// Not armed.
  [[nodiscard]] Status open(sd_event* loop, std::function<void()> call,
                            std::int64_t priority = kNormal,
                            std::chrono::microseconds accuracy = kRelaxed);
  /// From now on, whenever it was due before. Zero and less: in the next turn.
  void arm(std::chrono::microseconds after);
  void disarm();
};

/// Calls in the loop's next turn, however often it was asked for in this one.
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
