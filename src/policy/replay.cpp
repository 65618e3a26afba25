// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/replay.hpp"

#include <algorithm>
#include <functional>
#include <set>

#include "trireme/policy/explain.hpp"

namespace trireme::policy {
namespace {

/// True if the labels of this end were proved by a remote host.
bool is_remote(const SeenEnd& end) {
  return end.labels && end.workload.empty();
}

}  // namespace

Replay replay(const Policy& before, const Policy& after, IdentityDiff& identity,
              const std::vector<SeenFlow>& flows, bool open) {
  Replay result;
  const NameIndex old_names(before);
  const NameIndex new_names(after);
  for (const SeenFlow& flow : flows) {
    result.flows += flow.count;
    const std::uint64_t was = count_denied(before, old_names, flow);
    const IdentityDiff::Moved moved = identity.apply(flow);
    const bool is_unproved = open && !moved.because.empty() &&
                             (is_remote(flow.from) || is_remote(flow.to)) &&
                             moved.flow.from.labels && moved.flow.to.labels;
    std::uint64_t is = 0;
    std::string reason;
    if (!moved.blocked.empty()) {
      is = flow.count;
      reason = moved.blocked;
    } else if (moved.is_own) {
      is = 0;
    } else if (is_unproved) {
      is = flow.count;
      reason = "the remote host must be asked again for a workload with other labels";
    } else {
      is = count_denied(after, new_names, moved.flow);
      if (is > was) {
        const Decision decision = judge(after, new_names, moved.flow);
        reason = decision.rule != nullptr ? decision.rule->text() : sentence(decision.reason);
      }
    }
    if (is <= was) {
      continue;
    }
    Cut cut{.flow = flow, .reason = std::move(reason)};
    cut.flow.count = is - was;
    result.denied += cut.flow.count;
    std::set<std::size_t> because(moved.because.begin(), moved.because.end());
    for (const std::size_t change : because) {
      identity.changes()[change].live_cut += open ? cut.flow.count : 0;
      cut.identity.push_back(identity.changes()[change].text());
    }
    result.cuts.push_back(std::move(cut));
  }
  std::ranges::stable_sort(result.cuts, std::greater{},
                           [](const Cut& cut) { return cut.flow.count; });
  return result;
}

}  // namespace trireme::policy
