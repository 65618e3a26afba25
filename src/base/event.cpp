// SPDX-License-Identifier: Apache-2.0
#include "trireme/base/event.hpp"

#include <spdlog/spdlog.h>
#include <systemd/sd-event.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <utility>
#include <vector>

namespace trireme::event {
namespace {

static_assert(kImportant == SD_EVENT_PRIORITY_IMPORTANT && kNormal == SD_EVENT_PRIORITY_NORMAL);

Status opened(int rc) {
  return rc < 0 ? Status(fail_errno("cannot set up the event loop", -rc)) : Status{};
}

/// Ends the loop if a source could not be changed: it would otherwise never be called again.
/// -ESTALE means that the loop has ended already, so that the change does not matter.
void expect(sd_event_source* source, int rc) {
  if (rc < 0 && rc != -ESTALE) {
    spdlog::critical("{}", fail_errno("cannot change an event source", -rc).value().text());
    sd_event_exit(sd_event_source_get_event(source), rc);
  }
}

std::uint64_t microseconds(std::chrono::microseconds time) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(time.count(), 1));
}

}  // namespace

struct Source::State : std::enable_shared_from_this<State> {
  explicit State(Called what) : call(std::move(what)) {}

  /// Keeps this object alive until the call returns: the call may close the source.
  int run(std::uint32_t events) {
    const auto kept = shared_from_this();
    call(events);
    return 0;
  }
  static int on_ready(sd_event_source* /*source*/, int /*fd*/, std::uint32_t events, void* state) {
    return static_cast<State*>(state)->run(events);
  }
  static int on_time(sd_event_source* /*source*/, std::uint64_t /*usec*/, void* state) {
    return static_cast<State*>(state)->run(0);
  }
  static int on_turn(sd_event_source* /*source*/, void* state) {
    return static_cast<State*>(state)->run(0);
  }

  sd_event_source* source = nullptr;
  Called call;
};

Source& Source::operator=(Source&& other) noexcept {
  if (this != &other) {
    close();
    state_ = std::move(other.state_);
  }
  return *this;
}

void Source::close() {
  if (state_ != nullptr) {
    state_->source = sd_event_source_disable_unref(state_->source);
    state_.reset();
  }
}

Status Source::take(std::shared_ptr<State> made, int rc) {
  if (rc < 0) {
    sd_event_source_disable_unref(made->source);
    return opened(rc);
  }
  close();
  state_ = std::move(made);
  return {};
}

Status Io::open(sd_event* loop, int fd, std::uint32_t events, Called call, std::int64_t priority) {
  const auto made = std::make_shared<State>(std::move(call));
  const int rc = sd_event_add_io(loop, &made->source, fd, events, State::on_ready, made.get());
  return take(made, rc < 0 ? rc : sd_event_source_set_priority(made->source, priority));
}

Status Io::set_events(std::uint32_t events) {
  return state_ == nullptr ? Status{}
                           : opened(sd_event_source_set_io_events(state_->source, events));
}

void Io::pause() {
  if (state_ != nullptr) {
    expect(state_->source, sd_event_source_set_enabled(state_->source, SD_EVENT_OFF));
  }
}

void Io::resume() {
  if (state_ != nullptr) {
    expect(state_->source, sd_event_source_set_enabled(state_->source, SD_EVENT_ON));
  }
}

Status Timer::open(sd_event* loop, std::function<void()> call, std::int64_t priority,
                   std::chrono::microseconds accuracy) {
  const auto made =
      std::make_shared<State>([call = std::move(call)](std::uint32_t /*events*/) { call(); });
  int rc = sd_event_add_time_relative(loop, &made->source, CLOCK_MONOTONIC, 0,
                                      microseconds(accuracy), State::on_time, made.get());
  rc = rc < 0 ? rc : sd_event_source_set_priority(made->source, priority);
  return take(made, rc < 0 ? rc : sd_event_source_set_enabled(made->source, SD_EVENT_OFF));
}

void Timer::arm(std::chrono::microseconds after) {
  if (state_ == nullptr) {
    return;
  }
  sd_event_source* const source = state_->source;
  // A time in the past fires in the next turn, without waiting for the accuracy.
  const int rc = after.count() <= 0
                     ? sd_event_source_set_time(source, 0)
                     : sd_event_source_set_time_relative(source, microseconds(after));
  expect(source, rc < 0 ? rc : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT));
}

void Timer::disarm() {
  if (state_ != nullptr) {
    expect(state_->source, sd_event_source_set_enabled(state_->source, SD_EVENT_OFF));
  }
}

Status Deferred::open(sd_event* loop, std::function<void()> call) {
  const auto made =
      std::make_shared<State>([call = std::move(call)](std::uint32_t /*events*/) { call(); });
  const int rc = sd_event_add_defer(loop, &made->source, State::on_turn, made.get());
  return take(made, rc < 0 ? rc : sd_event_source_set_enabled(made->source, SD_EVENT_OFF));
}

void Deferred::request() {
  if (state_ != nullptr) {
    expect(state_->source, sd_event_source_set_enabled(state_->source, SD_EVENT_ONESHOT));
  }
}

struct Loop::Kept {
  struct Call {
    std::function<void()> call;
    sd_event_source* source = nullptr;
  };
  std::vector<std::unique_ptr<Call>> calls;

  Kept() = default;
  Kept(const Kept&) = delete;
  Kept& operator=(const Kept&) = delete;
  ~Kept() {
    for (const auto& each : calls) {
      sd_event_source_disable_unref(each->source);
    }
  }
  Call& add(std::function<void()> call) {
    return *calls.emplace_back(std::make_unique<Call>(Call{std::move(call), nullptr}));
  }
  static int on_signal(sd_event_source* /*source*/, const signalfd_siginfo* /*info*/, void* call) {
    static_cast<Call*>(call)->call();
    return 0;
  }
  static int on_turn(sd_event_source* /*source*/, void* call) {
    static_cast<Call*>(call)->call();
    return 0;
  }
};

Result<Loop> Loop::create() {
  sd_event* loop = nullptr;
  if (Status made = opened(sd_event_new(&loop)); !made) {
    return tl::unexpected(made.error());
  }
  return Loop(loop);
}

Loop::Loop(sd_event* loop) : loop_(loop), kept_(std::make_unique<Kept>()) {}
Loop::Loop(Loop&& other) noexcept
    : loop_(std::exchange(other.loop_, nullptr)), kept_(std::move(other.kept_)) {}

Loop& Loop::operator=(Loop&& other) noexcept {
  std::swap(loop_, other.loop_);
  std::swap(kept_, other.kept_);
  return *this;
}

Loop::~Loop() {
  kept_.reset();
  sd_event_unref(loop_);
}

Status Loop::on_signal(int signal, std::function<void()> call) {
  Kept::Call& kept = kept_->add(std::move(call));
  return opened(sd_event_add_signal(loop_, &kept.source, signal, Kept::on_signal, &kept));
}

Status Loop::after_turns(std::function<void()> call) {
  Kept::Call& kept = kept_->add(std::move(call));
  return opened(sd_event_add_post(loop_, &kept.source, Kept::on_turn, &kept));
}

Status Loop::feed_watchdog() {
  return opened(sd_event_set_watchdog(loop_, 1));
}

Status Loop::run() {
  const int rc = sd_event_loop(loop_);
  return rc < 0 ? Status(fail_errno("the event loop failed", -rc)) : Status{};
}

Status Loop::run_once(std::chrono::microseconds patience) {
  const int rc = sd_event_run(loop_, microseconds(patience));
  return rc < 0 ? Status(fail_errno("the event loop failed", -rc)) : Status{};
}

void Loop::end() {
  sd_event_exit(loop_, 0);
}

void require(sd_event* loop, const Status& opened) {
  if (!opened) {
    spdlog::critical("{}", opened.error().text());
    sd_event_exit(loop, -ENOMEM);
  }
}

std::chrono::microseconds now(sd_event* loop) {
  std::uint64_t time = 0;
  sd_event_now(loop, CLOCK_MONOTONIC, &time);
  return std::chrono::microseconds(time);
}

}  // namespace trireme::event
