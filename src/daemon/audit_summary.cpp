// SPDX-License-Identifier: Apache-2.0
#include "audit_summary.hpp"

#include <utility>

#include "trireme/control/flow.hpp"

namespace trireme::daemon {

bool AuditSummary::take(const policy::Flow& flow, Clock::time_point now) {
  std::string key = control::flow_key(flow);
  if (const auto known = kinds_.find(key); known != kinds_.end()) {
    known->second.last = flow;
    known->second.count++;
    return false;
  }
  std::string owner = control::flow_owner(flow);
  const auto held = of_owner_.find(owner);
  if (kinds_.size() < kMostKinds && (held == of_owner_.end() || held->second < kMostOfOwner)) {
    of_owner_[owner]++;
    kinds_.emplace(std::move(key),
                   Kind{.last = flow, .owner = std::move(owner), .begin = now, .count = 0});
  }
  return true;
}

std::vector<AuditSummary::Repeated> AuditSummary::due(Clock::time_point now) {
  std::vector<Repeated> repeated;
  for (auto next = kinds_.begin(); next != kinds_.end();) {
    Kind& kind = next->second;
    if (now - kind.begin < kWindow) {
      ++next;
    } else if (kind.count > 0) {
      repeated.push_back({kind.last, std::exchange(kind.count, 0)});
      kind.begin = now;
      ++next;
    } else {
      const auto held = of_owner_.find(kind.owner);
      if (--held->second == 0) {
        of_owner_.erase(held);
      }
      next = kinds_.erase(next);
    }
  }
  return repeated;
}

}  // namespace trireme::daemon
