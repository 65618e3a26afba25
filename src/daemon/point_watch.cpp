#include "point_watch.hpp"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <systemd/sd-event.h>

#include <algorithm>
#include <chrono>

namespace trireme::daemon {
namespace {

/// Below everything that changes who may talk: a flood of refusals delays nobody's enrolment.
constexpr std::int64_t kLogPriority = SD_EVENT_PRIORITY_NORMAL + 10;
/// Each reading asks the kernel for everything that it has refused lately. Rests between readings
/// leave a tenth of the time to them, and are short enough for what the kernel logs meanwhile to
/// fit the socket.
constexpr std::uint64_t kReadRests = 9;
constexpr std::uint64_t kShortest = 1'000;  // microseconds; below, there is no rest
constexpr std::uint64_t kLongest = 100'000;
/// Tenths of conntrack's room.
constexpr std::uint64_t kFull = 9;
constexpr std::uint64_t kNoLongerFull = 8;

}  // namespace

Result<std::unique_ptr<PointWatch>> PointWatch::open(sd_event* loop, enforcer::Points& points,
                                                     enforcer::Point& point, FlowFeed& feed,
                                                     const workload::Registry& registry,
                                                     Drift::Handlers handlers) {
  auto log = enforcer::FlowLog::open();
  if (!log) {
    return tl::unexpected(log.error());
  }
  auto drift = Drift::open(loop, *point.enforcer, fmt::format("network namespace {}", point.id),
                           std::move(handlers));
  if (!drift) {
    return tl::unexpected(drift.error());
  }
  std::unique_ptr<PointWatch> watch(new PointWatch(std::move(*log), points, point, feed, registry));
  watch->drift_ = std::move(*drift);
  if (auto queues = kernel::QueueCounters::open()) {
    watch->queues_ = std::move(*queues);
  }
  if (auto use = kernel::ConntrackUse::open()) {
    watch->conntrack_use_ = std::move(*use);
  }
  if (point.enforcer->has_queues()) {
    auto answers = AnswerWatch::open(loop, *point.enforcer);
    if (!answers) {
      return tl::unexpected(answers.error());
    }
    watch->answers_ = std::move(*answers);
  }
  int rc =
      sd_event_add_io(loop, &watch->logged_, watch->log_.fd(), EPOLLIN, on_logged, watch.get());
  rc = rc < 0 ? rc : sd_event_source_set_priority(watch->logged_, kLogPriority);
  rc = rc < 0 ? rc
              : sd_event_add_time_relative(loop, &watch->rested_, CLOCK_MONOTONIC, 0, 1, on_rested,
                                           watch.get());
  if (rc >= 0 && point.addresses != nullptr) {
    rc = sd_event_add_io(loop, &watch->addresses_, point.addresses->fd(), EPOLLIN, on_addresses,
                         watch.get());
  }
  if (rc < 0) {
    return fail_errno("cannot follow a network namespace", -rc);
  }
  return watch;
}

PointWatch::~PointWatch() {
  sd_event_source_disable_unref(logged_);
  sd_event_source_disable_unref(rested_);
  sd_event_source_disable_unref(addresses_);
}

std::uint32_t PointWatch::queued() const {
  std::uint32_t waiting = 0;
  for (const kernel::QueueCounter& counter :
       queues_ ? queues_->read() : std::vector<kernel::QueueCounter>()) {
    if (counter.number >= verifier::kFirstQueue &&
        counter.number < verifier::kFirstQueue + verifier::kMostThreads) {
      waiting += counter.waiting;
    }
  }
  return waiting;
}

void PointWatch::look_at_conntrack() {
  auto count = conntrack_use_ ? conntrack_use_->read() : fail("not to be read");
  if (!count || count->most == 0) {
    conntrack_.reset();
    conntrack_full_ = false;
    return;
  }
  conntrack_ = *count;
  const std::uint64_t tenths = count->entries * 10 / count->most;
  conntrack_full_ = tenths >= kFull || (conntrack_full_ && tenths >= kNoLongerFull);
}

int PointWatch::on_logged(sd_event_source* source, int /*fd*/, std::uint32_t /*events*/,
                          void* self) {
  auto& watch = *static_cast<PointWatch*>(self);
  const auto began = std::chrono::steady_clock::now();
  for (policy::Flow& flow : watch.log_.read(*watch.point_.enforcer, watch.registry_)) {
    watch.feed_.take(std::move(flow));
  }
  const auto taken = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - began);
  if (const auto rest = kReadRests * static_cast<std::uint64_t>(taken.count()); rest > kShortest) {
    sd_event_source_set_enabled(source, SD_EVENT_OFF);
    sd_event_source_set_time_relative(watch.rested_, std::min(rest, kLongest));
    sd_event_source_set_enabled(watch.rested_, SD_EVENT_ONESHOT);
  }
  return 0;
}

int PointWatch::on_rested(sd_event_source* /*source*/, std::uint64_t /*usec*/, void* self) {
  sd_event_source_set_enabled(static_cast<PointWatch*>(self)->logged_, SD_EVENT_ON);
  return 0;
}

int PointWatch::on_addresses(sd_event_source* /*source*/, int /*fd*/, std::uint32_t /*events*/,
                             void* self) {
  auto& watch = *static_cast<PointWatch*>(self);
  if (watch.point_.addresses->drain()) {
    watch.points_.look_at_addresses();
  }
  return 0;
}

}  // namespace trireme::daemon
