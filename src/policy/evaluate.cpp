// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/evaluate.hpp"

#include <algorithm>

namespace trireme::policy {
namespace {

bool is_workload(const Endpoint& end) {
  return end.kind == Endpoint::Kind::workload;
}

bool in_network(const Policy& policy, std::size_t index, const Endpoint& end) {
  if (std::ranges::find(end.named, index) != end.named.end()) {
    return true;
  }
  const std::vector<Prefix>& cidrs = policy.networks[index].cidrs;
  return end.address && std::ranges::any_of(
                            cidrs, [&](const Prefix& cidr) { return cidr.contains(*end.address); });
}

bool covers_entity(const Policy& policy, const Entity& entity, const Endpoint& end) {
  if (is_workload(end)) {
    return false;
  }
  switch (entity.kind) {
    case Entity::Kind::host:
      return end.kind == Endpoint::Kind::host;
    case Entity::Kind::world:
      return end.kind == Endpoint::Kind::world;
    case Entity::Kind::network:
      return entity.network < policy.networks.size() && in_network(policy, entity.network, end);
  }
  return false;
}

bool any_covers(const Policy& policy, const std::vector<Peer>& peers, const Endpoint& end) {
  return std::any_of(peers.begin(), peers.end(),
                     [&](const Peer& peer) { return covers(policy, peer, end); });
}

bool applies(const Policy& policy, const Rule& rule, const Endpoint& from, const Endpoint& to,
             std::uint8_t protocol, std::uint16_t port) {
  const auto covers_port = [&](const PortRange& range) { return range.contains(protocol, port); };
  return (rule.ports.empty() || std::any_of(rule.ports.begin(), rule.ports.end(), covers_port)) &&
         any_covers(policy, rule.from, from) && any_covers(policy, rule.to, to);
}

bool baseline_allows(Baseline baseline, const Endpoint& from, const Endpoint& to) {
  if (from.labels == nullptr || to.labels == nullptr || !is_workload(from) || !is_workload(to)) {
    return false;
  }
  switch (baseline) {
    case Baseline::same_labels:
      return from.labels->same_labels(*to.labels);
    case Baseline::any_common_label:
      return from.labels->shares_a_label(*to.labels);
    case Baseline::none:
      return false;
  }
  return false;
}

// The first applicable rule of each kind, in file order.
struct Matches {
  const Rule* deny = nullptr;
  const Rule* allow = nullptr;
  const Rule* audited_deny = nullptr;
  const Rule* audited_allow = nullptr;
  bool log = false;

  void add(const Rule& rule) {
    const bool audited = rule.mode == Mode::audit;
    const Rule*& first = rule.action == Rule::Action::deny ? (audited ? audited_deny : deny)
                                                           : (audited ? audited_allow : allow);
    if (first == nullptr) {
      first = &rule;
    }
    log = log || (rule.log && !audited);
  }
};

Decision decide(const Matches& matches, bool baseline) {
  if (matches.deny != nullptr) {
    return {Verdict::deny, Reason::deny_rule, matches.deny, matches.log};
  }
  if (matches.allow == nullptr && !baseline) {
    const Reason reason =
        matches.audited_allow != nullptr ? Reason::audited_allow : Reason::no_rule;
    return {Verdict::deny, reason, matches.audited_allow, matches.log};
  }
  if (matches.audited_deny != nullptr) {
    return {Verdict::audit, Reason::audited_deny, matches.audited_deny, matches.log};
  }
  return {Verdict::allow, matches.allow != nullptr ? Reason::allow_rule : Reason::baseline,
          matches.allow, matches.log};
}

}  // namespace

const char* text(Verdict verdict) {
  switch (verdict) {
    case Verdict::allow:
      return "allow";
    case Verdict::deny:
      return "deny";
    case Verdict::audit:
      return "audit";
  }
  return "unknown";
}

const char* text(Reason reason) {
  switch (reason) {
    case Reason::unprotected:
      return "unprotected";
    case Reason::self:
      return "self";
    case Reason::deny_rule:
      return "deny_rule";
    case Reason::audited_deny:
      return "audited_deny";
    case Reason::allow_rule:
      return "allow_rule";
    case Reason::baseline:
      return "baseline";
    case Reason::audited_allow:
      return "audited_allow";
    case Reason::no_rule:
      return "no_rule";
  }
  return "unknown";
}

bool covers(const Policy& policy, const Peer& peer, const Endpoint& end) {
  if (const auto* selector = std::get_if<Selector>(&peer)) {
    return is_workload(end) && end.labels != nullptr && selector->matches(*end.labels);
  }
  return covers_entity(policy, std::get<Entity>(peer), end);
}

Decision evaluate(const Policy& policy, const Endpoint& from, const Endpoint& to,
                  std::uint8_t protocol, std::uint16_t port) {
  if (!is_workload(from) && !is_workload(to)) {
    return {Verdict::allow, Reason::unprotected, nullptr, false};
  }
  if (is_workload(from) && is_workload(to) && from.workload != 0 && from.workload == to.workload) {
    return {Verdict::allow, Reason::self, nullptr, false};
  }
  Matches matches;
  for (const Rule& rule : policy.rules) {
    if (applies(policy, rule, from, to, protocol, port)) {
      matches.add(rule);
    }
  }
  Decision decision = decide(matches, baseline_allows(policy.baseline, from, to));
  if (decision.verdict == Verdict::deny && policy.mode == Mode::audit) {
    decision.verdict = Verdict::audit;
  }
  return decision;
}

}  // namespace trireme::policy
