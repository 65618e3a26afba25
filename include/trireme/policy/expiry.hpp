// SPDX-License-Identifier: Apache-2.0
// Rules that are in force only until a time (`until`). evaluate() knows no time:
// enforcement uses in_force(), and again when the period ends.
#pragma once

#include <algorithm>
#include <chrono>
#include <string>

#include "trireme/policy/policy.hpp"

namespace trireme::policy {

/// "2026-12-01T00:00:00Z"
[[nodiscard]] std::string text(std::chrono::sys_seconds time);

/// The current time.
[[nodiscard]] std::chrono::sys_seconds now();

/// The time that decides about expiry. A clock that is set back, or is behind after a boot, brings
/// deny rules back that had expired, but no allow rules.
struct Now {
  Now(std::chrono::sys_seconds time) : clock(time), latest(time) {}
  /// `seen`: a time that the clock has shown before.
  Now(std::chrono::sys_seconds time, std::chrono::sys_seconds seen)
      : clock(time), latest(std::max(time, seen)) {}
  std::chrono::sys_seconds clock;
  std::chrono::sys_seconds latest;
};

/// A rule has expired if its `until` is not later: than `latest` for an allow rule, than `clock`
/// for a deny rule.
[[nodiscard]] bool has_expired(const Rule& rule, const Now& now);

/// The policy without the rules that have expired. The digest stays that of the files.
[[nodiscard]] Policy in_force(Policy policy, const Now& now);

/// The same rules are in force as long as the clock shows a time from `begin` on, before `end`.
struct Period {
  std::chrono::sys_seconds begin = std::chrono::sys_seconds::min();
  std::chrono::sys_seconds end = std::chrono::sys_seconds::max();
  [[nodiscard]] bool contains(std::chrono::sys_seconds time) const {
    return begin <= time && time < end;
  }
};
[[nodiscard]] Period period_of(const Policy& policy, const Now& now);

}  // namespace trireme::policy
