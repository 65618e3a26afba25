// SPDX-License-Identifier: Apache-2.0
#include "trireme/base/event.hpp"

#include <spdlog/spdlog.h>
#include <systemd/sd-event.h>

#include <algorithm>
#include <csignal>
#include <ctime>
#include <utility>
#include <vector>

namespace trireme::event {

/// A source with what it calls, which may destroy the source's owner.
template <typename Call>
struct Called : std::enable_shared_from_this<Called<Call>> {
  explicit Called(Call what) : call(std::move(what)) {}
  ~Called() { sd_event_source_disable_unref(source); }
  Called(const Called&) = delete;
  Called& operator=(const Called&) = delete;

  sd_event_source* source = nullptr;
  Call call;
};

namespace {

static_assert(kImportant == SD_EVENT_PRIORITY_IMPORTANT && kNormal == SD_EVENT_PRIORITY_NORMAL);

Status opened(int rc) {
  return rc < 0 ? Status(fail_errno("cannot set up the event loop", -rc)) : Status{};
}

/// Of a source that is in its loop nothing that is set fails.
void expect(sd_event_source* source, int rc) {
  if (rc < 0) {
    spdlog::critical("the event loop: {}",
                     fail_errno("cannot change a source", -rc).value().text());
    sd_event_exit(sd_event_source_get_event(source), rc);
  }
}

std::uint64_t microseconds(std::chrono::microseconds time) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(time.count(), 1));
}

template <typename State, typename... Arguments>
int call(void* state, Arguments... arguments) {
  const auto called = static_cast<State*>(state)->shared_from_this();
  called->call(arguments...);
  return 0;
}

}  // namespace

struct Io::State : Called<Io::Call> {
  using Called::Called;
  static int on_ready(sd_event_source* /*source*/, int /*fd*/, std::uint32_t events, void* state) {
    return event::call<Called<Io::Call>>(state, events);
  }
};

Status Io::open(sd_event* loop, int fd, std::uint32_t events, Call call, std::int64_t priority) {
  auto made = std::make_shared<State>(std::move(call));
  Called<Call>* const called = made.get();
  int rc = sd_event_add_io(loop, &made->source, fd, events, State::on_ready, called);
  rc = rc < 0 ? rc : sd_event_source_set_priority(made->source, priority);
  if (rc >= 0) {
    state_ = std::move(made);
  }
  return opened(rc);
}

void Io::set_events(std::uint32_t events) {
  expect(state_->source, sd_event_source_set_io_events(state_->source, events));
}

void Io::pause() {
  expect(state_->source, sd_event_source_set_enabled(state_->source, SD_EVENT_OFF));
}

void Io::resume() {
  expect(state_->source, sd_event_source_set_enabled(state_->source, SD_EVENT_ON));
}

struct Timer::State : Called<Timer::Call> {
  using Called::Called;
  static int on_time(sd_event_source* /*source*/, std::uint64_t /*usec*/, void* state) {
    return event::call<Called<Timer::Call>>(state);
  }
};

Status Timer::open(sd_event* loop, Call call, std::int64_t priority,
                   std::chrono::microseconds accuracy) {
  auto made = std::make_shared<State>(std::move(call));
  Called<Call>* const called = made.get();
  int rc = sd_event_add_time_relative(loop, &made->source, CLOCK_MONOTONIC, 0,
                                      microseconds(accuracy), State::on_time, called);
  rc = rc < 0 ? rc : sd_event_source_set_priority(made->source, priority);
  rc = rc < 0 ? rc : sd_event_source_set_enabled(made->source, SD_EVENT_OFF);
  if (rc >= 0) {
    state_ = std::move(made);
  }
  return opened(rc);
}

void Timer::arm(std::chrono::microseconds after) {
  sd_event_source* const source = state_->source;
  const int rc = sd_event_source_set_time_relative(source, microseconds(after));
  expect(source, rc < 0 ? rc : sd_event_source_set_enabled(source, SD_EVENT_ONESHOT));
}

void Timer::disarm() {
  expect(state_->source, sd_event_source_set_enabled(state_->source, SD_EVENT_OFF));
}

struct Deferred::State : Called<std::function<void()>> {
  using Called::Called;
  static int on_turn(sd_event_source* /*source*/, void* state) {
    return event::call<Called<std::function<void()>>>(state);
  }
};

Status Deferred::open(sd_event* loop, std::function<void()> call) {
  auto made = std::make_shared<State>(std::move(call));
  Called<std::function<void()>>* const called = made.get();
  int rc = sd_event_add_defer(loop, &made->source, State::on_turn, called);
  rc = rc < 0 ? rc : sd_event_source_set_enabled(made->source, SD_EVENT_OFF);
  if (rc >= 0) {
    state_ = std::move(made);
  }
  return opened(rc);
}

void Deferred::request() {
  expect(state_->source, sd_event_source_set_enabled(state_->source, SD_EVENT_ONESHOT));
}

Result<Loop> Loop::create() {
  sd_event* loop = nullptr;
  if (Status made = opened(sd_event_new(&loop)); !made) {
    return tl::unexpected(made.error());
  }
  return Loop(loop);
}

struct Loop::Kept {
  std::vector<std::unique_ptr<Called<std::function<void()>>>> calls;

  static int on_signal(sd_event_source* /*source*/, const signalfd_siginfo* /*info*/, void* call) {
    static_cast<Called<std::function<void()>>*>(call)->call();
    return 0;
  }
  static int on_turn(sd_event_source* /*source*/, void* call) {
    static_cast<Called<std::function<void()>>*>(call)->call();
    return 0;
  }
};

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
  auto& kept =
      *kept_->calls.emplace_back(std::make_unique<Called<std::function<void()>>>(std::move(call)));
  return opened(sd_event_add_signal(loop_, &kept.source, signal, Kept::on_signal, &kept));
}

Status Loop::after_turns(std::function<void()> call) {
  auto& kept =
      *kept_->calls.emplace_back(std::make_unique<Called<std::function<void()>>>(std::move(call)));
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
