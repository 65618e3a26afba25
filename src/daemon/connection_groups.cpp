// SPDX-License-Identifier: Apache-2.0
#include "connection_groups.hpp"

#include <algorithm>
#include <functional>

#include "trireme/enforcer/flow_log.hpp"
#include "trireme/policy/seen.hpp"

namespace trireme::daemon {
namespace {

constexpr std::size_t kMostKinds = 100'000;

}  // namespace

void ConnectionGroups::add(ConnectionKind kind, const enforcer::Enforcer& enforcer,
                           std::optional<std::uint16_t> client_port) {
  const bool concerns_workload = is_workload(kind.from.number) || is_workload(kind.to.number);
  const bool concerns_candidate = !kind.from.cgroup.empty() || !kind.to.cgroup.empty();
  const bool is_own = (is_workload(kind.from.number) && kind.from.number == kind.to.number) ||
                      (!kind.from.cgroup.empty() && kind.from.cgroup == kind.to.cgroup);
  if (is_own || abi::is_blocked(kind.from.number) || abi::is_blocked(kind.to.number) ||
      !(concerns_workload || (wants_everything_ && concerns_candidate))) {
    return;
  }
  for (ConnectionEnd* end : {&kind.from, &kind.to}) {
    if (is_workload(end->number) && !wants_everything_ && !kind.is_unproved) {
      end->address = {};
    }
    end->has_token = end->has_token && wants_everything_;
  }
  auto found = groups_.find(kind);
  if (found == groups_.end()) {
    if (groups_.size() >= kMostKinds) {
      complete_ = false;
      uncounted_++;
      return;
    }
    found =
        groups_.emplace(kind, Group{.count = 0, .enforcer = &enforcer, .client_ports = {}}).first;
  }
  found->second.count++;
  if (client_port) {
    found->second.client_ports.push_back(*client_port);
  }
}

policy::FlowEnd ConnectionGroups::described(const ConnectionEnd& end, const ConnectionEnd& other,
                                            const enforcer::Enforcer& enforcer,
                                            bool with_address) const {
  policy::FlowEnd made;
  if (!is_workload(end.number)) {
    made = enforcer::end_without_labels(end.number, end.address, other.number, enforcer);
    made.cgroup = end.cgroup;
    return made;
  }
  if (wants_everything_ || with_address) {
    made.address = end.address;
  }
  if (const workload::Workload* workload = daemon_.registry().find_number(end.number)) {
    made.labels = workload->labels;
    made.workload = workload->name;
  } else if (const auto remote = daemon_.tokens().identities().find(end.number)) {
    made.labels = remote->labels;
    made.host = remote->peer->name;
  } else {
    made.labels.emplace();
  }
  return made;
}

Connections ConnectionGroups::result() const {
  Connections found;
  found.complete = complete_;
  found.flows = uncounted_ + unknown_;
  found.unknown = unknown_;
  const policy::Policy& policy = *daemon_.settings().policy();
  const policy::NameIndex names(policy);
  for (const auto& [kind, group] : groups_) {
    OpenConnections made;
    made.is_local = kind.is_local;
    made.is_guess = kind.is_guess;
    made.is_unproved = kind.is_unproved;
    made.from_has_token = kind.from.has_token;
    made.to_has_token = kind.to.has_token;
    policy::Flow& flow = made.tally.last;
    flow.time = made.tally.first = now_;
    flow.source = described(kind.from, kind.to, *group.enforcer, kind.is_unproved);
    flow.destination = described(kind.to, kind.from, *group.enforcer, kind.is_unproved);
    flow.protocol = kind.protocol;
    flow.port = kind.port;
    made.tally.count = group.count;
    flow.verdict = kind.verdict.value_or(policy::Verdict::allow);
    if (!kind.verdict) {
      policy::SeenFlow seen = policy::seen(flow, group.count, group.client_ports);
      seen.is_local = kind.is_local;
      seen.is_unproved = kind.is_unproved;
      const policy::Verdict verdict = policy::judge(policy, names, seen).verdict;
      flow.verdict = verdict == policy::Verdict::audit ? verdict : policy::Verdict::allow;
      // Without proof, NAT that is not seen here may be what lets the flow pass.
      made.tally.count -= kind.is_unproved ? 0 : policy::count_denied(policy, names, seen);
    }
    if (made.tally.count == 0) {
      continue;  // is being ended
    }
    if (wants_everything_) {
      made.client_ports = group.client_ports;
    }
    found.flows += made.tally.count;
    found.groups.push_back(std::move(made));
  }
  std::ranges::stable_sort(found.groups, std::greater{},
                           [](const OpenConnections& each) { return each.tally.count; });
  return found;
}

}  // namespace trireme::daemon
