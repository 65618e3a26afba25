// SPDX-License-Identifier: Apache-2.0
#include "point_watch.hpp"

#include <fmt/format.h>
#include <sys/epoll.h>

#include <algorithm>
#include <chrono>

namespace trireme::daemon {
namespace {

/// Below everything that changes who may talk: a flood of refusals delays nobody's enrolment.
constexpr std::int64_t kLogPriority = event::kNormal + 10;
/// Each reading asks the kernel for everything that it has refused lately. Rests between readings
/// leave a tenth of the time to them, and are short enough for what the kernel logs meanwhile to
/// fit the socket.
constexpr int kReadRests = 9;
constexpr std::chrono::milliseconds kShortest(1);  // below, there is no rest
constexpr std::chrono::milliseconds kLongest(100);
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
  if (Status followed = watch->follow(loop); !followed) {
    return tl::unexpected(followed.error());
  }
  return watch;
}

Status PointWatch::follow(sd_event* loop) {
  for (Status opened : {logged_.open(
                            loop, log_.fd(), EPOLLIN,
                            [this](std::uint32_t /*events*/) { read_log(); }, kLogPriority),
                        rested_.open(
                            loop, [this] { logged_.resume(); }, event::kNormal, event::kExact)}) {
    if (!opened) {
      return opened;
    }
  }
  return point_.addresses == nullptr
             ? Status{}
             : addresses_.open(loop, point_.addresses->fd(), EPOLLIN,
                               [this](std::uint32_t /*events*/) { look_at_addresses(); });
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

void PointWatch::read_log() {
  const auto began = std::chrono::steady_clock::now();
  for (policy::Flow& flow : log_.read(*point_.enforcer, registry_)) {
    feed_.take(std::move(flow));
  }
  const auto taken = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - began);
  if (const auto rest = kReadRests * taken; rest > kShortest) {
    logged_.pause();
    rested_.arm(std::min<std::chrono::microseconds>(rest, kLongest));
  }
}

void PointWatch::look_at_addresses() {
  if (point_.addresses->drain()) {
    points_.look_at_addresses();
  }
}

}  // namespace trireme::daemon
