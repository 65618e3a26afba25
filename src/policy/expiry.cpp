// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/expiry.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace trireme::policy {

std::string text(std::chrono::sys_seconds time) {
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss clock(time - day);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                     clock.hours().count(), clock.minutes().count(), clock.seconds().count());
}

std::chrono::sys_seconds now() {
  return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

bool has_expired(const Rule& rule, const Now& now) {
  return rule.until && *rule.until <= (rule.action == Rule::Action::allow ? now.latest : now.clock);
}

Policy in_force(Policy policy, const Now& now) {
  std::erase_if(policy.rules, [&now](const Rule& rule) { return has_expired(rule, now); });
  return policy;
}

Period period_of(const Policy& policy, const Now& now) {
  Period period;
  for (const Rule& rule : policy.rules) {
    if (!rule.until) {
      continue;
    }
    if (!has_expired(rule, now)) {
      period.end = std::min(period.end, *rule.until);
    } else if (rule.action == Rule::Action::deny) {
      period.begin = std::max(period.begin, *rule.until);
    }
  }
  return period;
}

}  // namespace trireme::policy
