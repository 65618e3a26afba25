#include "local_watch.hpp"

#include <sys/epoll.h>

#include <algorithm>
#include <ctime>
#include <utility>

namespace trireme::daemon {
namespace {

constexpr std::uint64_t kRound = 5'000'000;  // microseconds
/// What rules have refused before the gate is in their log by then, which is read with rests.
constexpr std::chrono::milliseconds kLater(300);
constexpr std::int64_t kLogPriority = SD_EVENT_PRIORITY_NORMAL + 10;  // as that of the rules' log
constexpr std::size_t kMost = 4096;

}  // namespace

Result<std::unique_ptr<LocalWatch>> LocalWatch::create(sd_event* loop, enforcer::LocalPolicy& local,
                                                       Problems& problems, Tell tell) {
  std::unique_ptr<LocalWatch> watch(new LocalWatch(local, problems, std::move(tell)));
  int rc = sd_event_add_time_relative(loop, &watch->round_, CLOCK_MONOTONIC, kRound, 0, on_round,
                                      watch.get());
  rc = rc < 0 ? rc
              : sd_event_add_io(loop, &watch->readable_, local.refused_fd(), EPOLLIN, on_refused,
                                watch.get());
  rc = rc < 0 ? rc : sd_event_source_set_priority(watch->readable_, kLogPriority);
  rc = rc < 0 ? rc
              : sd_event_add_time_relative(loop, &watch->told_, CLOCK_MONOTONIC, 0, 0, on_told,
                                           watch.get());
  rc = rc < 0 ? rc : sd_event_source_set_priority(watch->told_, kLogPriority);
  rc = rc < 0 ? rc : sd_event_source_set_enabled(watch->told_, SD_EVENT_OFF);
  if (rc < 0) {
    return fail_errno("cannot set up the event loop", -rc);
  }
  auto canary = Canary::create(loop, local.canary(), problems);
  problems.note("priorities", canary ? Status{} : Status(tl::unexpected(canary.error())));
  watch->canary_ = canary ? std::move(*canary) : nullptr;
  watch->send_canary();
  return watch;
}

void LocalWatch::send_canary() {
  if (canary_) {
    canary_->send();
  }
}

LocalWatch::~LocalWatch() {
  sd_event_source_disable_unref(readable_);
  sd_event_source_disable_unref(told_);
  sd_event_source_disable_unref(round_);
}

int LocalWatch::on_refused(sd_event_source* /*source*/, int /*fd*/, std::uint32_t /*events*/,
                           void* self) {
  auto& watch = *static_cast<LocalWatch*>(self);
  const auto due = std::chrono::steady_clock::now() + kLater;
  const bool is_first = watch.waiting_.empty();
  for (const gate::Refused& refused : watch.local_.take_refused()) {
    if (watch.waiting_.size() < kMost) {
      watch.waiting_.push_back({due, refused});
    }
  }
  if (is_first) {
    watch.await_told();
  }
  return 0;
}

void LocalWatch::await_told() {
  if (waiting_.empty()) {
    return;
  }
  const auto left = std::chrono::ceil<std::chrono::microseconds>(waiting_.front().due -
                                                                 std::chrono::steady_clock::now());
  sd_event_source_set_time_relative(
      told_, static_cast<std::uint64_t>(std::max(left.count(), std::int64_t{0})));
  sd_event_source_set_enabled(told_, SD_EVENT_ONESHOT);
}

int LocalWatch::on_told(sd_event_source* /*source*/, std::uint64_t /*usec*/, void* self) {
  auto& watch = *static_cast<LocalWatch*>(self);
  while (!watch.waiting_.empty() &&
         watch.waiting_.front().due <= std::chrono::steady_clock::now()) {
    watch.tell_(watch.waiting_.front().refused);
    watch.waiting_.pop_front();
  }
  watch.await_told();
  return 0;
}

int LocalWatch::on_round(sd_event_source* source, std::uint64_t /*usec*/, void* self) {
  auto& watch = *static_cast<LocalWatch*>(self);
  watch.problems_.note("the gate", watch.local_.look_through());
  watch.send_canary();  // rules of iptables-legacy and of tc change without a word
  sd_event_source_set_time_relative(source, kRound);
  return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

}  // namespace trireme::daemon
