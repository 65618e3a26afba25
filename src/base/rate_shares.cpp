// SPDX-License-Identifier: Apache-2.0
#include "trireme/base/rate_shares.hpp"

#include <algorithm>

namespace trireme {
namespace {

constexpr auto kSweep = std::chrono::seconds(1);  // least time between two searches for idle owners

}  // namespace

void RateShares::Bucket::refill(const Rate& rate, Clock::time_point now) {
  if (filled != Clock::time_point{}) {
    const double passed = std::chrono::duration<double>(now - filled).count();
    tokens = std::min(rate.burst, tokens + std::max(0.0, passed) * rate.per_second);
  }
  filled = now;
}

bool RateShares::take(std::string_view owner, Clock::time_point now) {
  Owner& of = find(owner, now);
  of.share.refill(limits_.each, now);
  of.reserve.refill(limits_.reserve, now);
  together_.refill(limits_.together, now);
  reserves_.refill(limits_.reserves, now);
  const bool pays_together = together_.tokens >= 1;
  if (of.share.tokens < 1 || (!pays_together && (of.reserve.tokens < 1 || reserves_.tokens < 1))) {
    return false;
  }
  if (pays_together) {
    together_.tokens -= 1;
  } else {
    of.reserve.tokens -= 1;
    reserves_.tokens -= 1;
  }
  of.share.tokens -= 1;
  return true;
}

RateShares::Owner& RateShares::find(std::string_view owner, Clock::time_point now) {
  const auto known = owners_.find(std::string(owner));
  if (known != owners_.end()) {
    return known->second;
  }
  if (owners_.size() >= limits_.owners) {
    forget_idle(now);
  }
  const std::string_view name = owners_.size() < limits_.owners ? owner : std::string_view{};
  return owners_.try_emplace(std::string(name), limits_).first->second;
}

/// Removes owners whose buckets are full again: they have the same rights as an unknown owner.
void RateShares::forget_idle(Clock::time_point now) {
  if (now < swept_ + kSweep) {
    return;
  }
  swept_ = now;
  for (auto owner = owners_.begin(); owner != owners_.end();) {
    owner->second.share.refill(limits_.each, now);
    owner->second.reserve.refill(limits_.reserve, now);
    const bool idle = owner->second.share.tokens >= limits_.each.burst &&
                      owner->second.reserve.tokens >= limits_.reserve.burst;
    owner = idle ? owners_.erase(owner) : std::next(owner);
  }
}

}  // namespace trireme
