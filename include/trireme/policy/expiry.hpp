// SPDX-License-Identifier: Apache-2.0
// Rules that are in force only until a time (`until`). evaluate() knows no time: whoever enforces a
// policy uses in_force(), and again when the period ends.
#pragma once

#include <chrono>
#include <string>

#include "trireme/policy/policy.hpp"

namespace trireme::policy {

/// "2026-12-01T00:00:00Z"
[[nodiscard]] std::string text(std::chrono::sys_seconds time);

/// The current time. A rule has expired if its `until` is not later.
[[nodiscard]] std::chrono::sys_seconds now();
[[nodiscard]] bool has_expired(const Rule& rule, std::chrono::sys_seconds time);

/// The policy without the rules that have expired at this time. The digest stays that of the files.
[[nodiscard]] Policy in_force(Policy policy, std::chrono::sys_seconds time);

/// The same rules are in force at every time from `begin` on, before `end`.
struct Period {
  std::chrono::sys_seconds begin = std::chrono::sys_seconds::min();
  std::chrono::sys_seconds end = std::chrono::sys_seconds::max();
  [[nodiscard]] bool contains(std::chrono::sys_seconds time) const {
    return begin <= time && time < end;
  }
};
[[nodiscard]] Period period_of(const Policy& policy, std::chrono::sys_seconds time);

}  // namespace trireme::policy
