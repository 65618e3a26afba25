// SPDX-License-Identifier: Apache-2.0
#include "revocation.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "trireme/base/log_shares.hpp"

namespace trireme::daemon {
namespace {

constexpr std::chrono::seconds kRetry(1);
/// Longer than any packet is between two rules.
constexpr std::chrono::milliseconds kSecondLook(100);
/// systemd answers within milliseconds, on an overloaded machine within seconds.
constexpr std::chrono::seconds kSettling(5);

}  // namespace

Status Revocation::follow(sd_event* loop) {
  return timer_.open(loop, [this] { look_again(); });
}

void Revocation::look(const std::vector<points::Point*>& points) {
  const std::vector<points::Point*> all = points_.all();
  const auto is_closed = [&all](const auto& item) {
    return std::ranges::none_of(
        all, [&item](const points::Point* point) { return point->id() == item.first; });
  };
  std::erase_if(failed_, is_closed);
  std::erase_if(due_, is_closed);
  std::size_t revoked = 0;
  const bool waits = must_wait();
  for (points::Point* point : points) {
    failed_.erase(point->id());
    if (const auto here = point->enforcer().revoke(!waits)) {
      revoked += *here;
    } else {
      failed_[point->id()] = here.error();
      due_[point->id()] = Clock::now() + kRetry;
    }
  }
  problems_.note("revocation",
                 failed_.empty() ? Status{} : Status(tl::unexpected(failed_.begin()->second)));
  count_ += revoked;
  if (revoked > 0 && log_shares().admit("connections")) {
    spdlog::info("re-evaluated {} connection{}: no longer allowed, or an endpoint is gone", revoked,
                 revoked == 1 ? "" : "s");
  }
}

void Revocation::look_twice(const std::vector<points::Point*>& points) {
  const auto due = Clock::now() + kSecondLook;
  for (const points::Point* point : points) {
    due_[point->id()] = due;
  }
  look(points);
  await_next();
}

void Revocation::look_after_load(const std::vector<points::Point*>& points) {
  settled_by_ = Clock::now() + kSettling;
  look_twice(points);
}

bool Revocation::must_wait() {
  const bool waits = !is_settled_() && Clock::now() < settled_by_;
  has_waited_ = has_waited_ || waits;
  if (has_waited_) {
    await_next();
  }
  return waits;
}

void Revocation::look_again() {
  const bool is_over = !must_wait() && std::exchange(has_waited_, false);
  const auto now = Clock::now();
  std::vector<points::Point*> points = points_.all();
  std::erase_if(points, [&](const points::Point* point) {
    const auto due = due_.find(point->id());
    return !is_over && (due == due_.end() || due->second > now);
  });
  std::erase_if(due_, [now](const auto& item) { return item.second <= now; });
  look(points);
  await_next();
}

void Revocation::await_next() {
  const auto now = Clock::now();
  auto next = Clock::time_point::max();
  if (has_waited_) {
    next = is_settled_() ? now : settled_by_;
  }
  for (const auto& [point, due] : due_) {
    next = std::min(next, due);
  }
  if (next != Clock::time_point::max()) {
    timer_.arm(std::chrono::ceil<std::chrono::microseconds>(next - now));
  }
}

}  // namespace trireme::daemon
