// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/replay.hpp"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <functional>
#include <set>

#include "trireme/policy/explain.hpp"

namespace trireme::policy {
namespace {

/// True for an open connection of two workloads that have proved their labels to each other: they
/// are in two network namespaces of this host, or one is of a remote host. In UDP the next datagram
/// proves the labels again: that of a client waits until the former flow has ended at the other
/// end; a server refuses one datagram, and the client's end renews its handshake.
bool is_proved(const SeenFlow& flow) {
  return flow.from.labels && flow.to.labels && !flow.is_local && !flow.is_unproved &&
         flow.protocol == IPPROTO_TCP;
}

/// True if the labels of an end differ whose connection is tied to them.
bool loses_token(const SeenFlow& before, const SeenFlow& after) {
  return (before.from.has_token && before.from.labels != after.from.labels) ||
         (before.to.has_token && before.to.labels != after.to.labels);
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
    IdentityDiff::Moved moved = identity.apply(flow);
    const bool keeps_labels = moved.flow.from.labels && moved.flow.to.labels;
    const bool ends_differ = open && !flow.is_local && !moved.because.empty();
    moved.flow.is_unproved = flow.is_unproved || (ends_differ && keeps_labels && !is_proved(flow) &&
                                                  flow.protocol == IPPROTO_TCP);
    std::uint64_t is = 0;
    std::string reason;
    if (!moved.blocked.empty()) {
      is = flow.count;
      reason = moved.blocked;
    } else if (moved.is_own) {
      is = 0;
    } else if (ends_differ && is_proved(flow)) {
      is = after.mode == Mode::audit ? 0 : flow.count;
      reason = fmt::format("the labels were proved when the connection began, and {}",
                           keeps_labels ? "they change" : "an end has none any more");
    } else if (ends_differ && loses_token(flow, moved.flow)) {
      is = after.mode == Mode::audit ? 0 : flow.count;
      reason = "the verifier knows the connection as one of a workload with the former labels";
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
