// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/explain.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netinet/in.h>

#include <algorithm>

#include "trireme/policy/expiry.hpp"

namespace trireme::policy {
namespace {

constexpr std::size_t kClosestRules = 3;
constexpr std::size_t kListedParts = 3;  // of a network, listed for each decision
constexpr std::size_t kOtherKind =
    2;  // an endpoint of another kind counts more than one requirement that does not match

/// The distance of an endpoint or port from what a rule requires. Cost 0: the rule covers it.
struct Gap {
  std::size_t cost = 0;
  std::string text;
};

Gap selector_gap(const char* side, const Selector& selector, const ExplainPeer& end) {
  if (end.kind != Endpoint::Kind::workload) {
    return {kOtherKind,
            fmt::format("requires {0} {1}, but the {0} is not a workload", side, selector.text())};
  }
  Gap gap;
  std::vector<std::string> required;
  std::vector<std::string> present;
  for (const Requirement& requirement : selector.requirements()) {
    if (requirement.matches(end.labels)) {
      continue;
    }
    ++gap.cost;
    const std::string* value = end.labels.find(requirement.key);
    required.push_back(requirement.text());
    present.push_back(value != nullptr ? requirement.key + "=" + *value
                                       : "no label " + requirement.key);
  }
  if (gap.cost > 0) {
    gap.text = fmt::format("requires {0} {1}, but the {0} has {2}", side,
                           fmt::join(required, " and "), fmt::join(present, " and "));
  }
  return gap;
}

/// The gap to the nearest alternative of `peers`.
Gap side_gap(const Policy& policy, const char* side, const std::vector<Peer>& peers,
             const ExplainPeer& end) {
  Gap nearest;
  for (const Peer& peer : peers) {
    if (covers(policy, peer, end.endpoint())) {
      return {};
    }
    const auto* selector = std::get_if<Selector>(&peer);
    Gap gap = selector != nullptr
                  ? selector_gap(side, *selector, end)
                  : Gap{kOtherKind, fmt::format("requires {0} {1}, but the {0} is {2}", side,
                                                peer_text(policy, peer), end.describe(policy))};
    if (nearest.cost == 0 || gap.cost < nearest.cost) {
      nearest = std::move(gap);
    }
  }
  return nearest;
}

Gap port_gap(const Rule& rule, std::uint8_t protocol, std::uint16_t port) {
  std::vector<std::string> ranges;
  for (const PortRange& range : rule.ports) {
    if (range.contains(protocol, port)) {
      return {};
    }
    ranges.push_back(range_text(range));
  }
  if (ranges.empty()) {
    return {};
  }
  return {
      1, fmt::format("covers only {}, not {}", fmt::join(ranges, ", "), port_text(protocol, port))};
}

struct Question {
  const Policy& policy;
  const ExplainPeer& from;
  const ExplainPeer& to;
  std::uint8_t protocol;
  std::uint16_t port;
};

struct Measured {
  std::size_t cost = 0;
  std::size_t sides = 0;  // how many of source, destination and port do not match
  NearMiss miss;
};

Measured measure(const Question& q, const Rule& rule) {
  Measured measured;
  measured.miss.rule = &rule;
  for (const Gap& gap :
       {side_gap(q.policy, "source", rule.from, q.from),
        side_gap(q.policy, "destination", rule.to, q.to), port_gap(rule, q.protocol, q.port)}) {
    if (gap.cost > 0) {
      measured.cost += gap.cost;
      ++measured.sides;
      measured.miss.differences.push_back(gap.text);
    }
  }
  const bool opposite = side_gap(q.policy, "source", rule.from, q.to).cost == 0 &&
                        side_gap(q.policy, "destination", rule.to, q.from).cost == 0 &&
                        port_gap(rule, q.protocol, q.port).cost == 0;
  if (measured.cost > 0 && opposite) {
    measured.cost = 1;
    measured.sides = 1;
    measured.miss.differences = {"allows only the opposite direction"};
  }
  return measured;
}

/// Enforced allow rules that match in part, closest first.
std::vector<NearMiss> closest_rules(const Question& q) {
  std::vector<Measured> candidates;
  for (const Rule& rule : q.policy.rules) {
    if (rule.action != Rule::Action::allow || rule.mode != Mode::enforce) {
      continue;
    }
    Measured measured = measure(q, rule);
    const std::size_t all_sides = rule.ports.empty() ? 2 : 3;
    if (measured.sides > 0 && measured.sides < all_sides) {
      candidates.push_back(std::move(measured));
    }
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Measured& a, const Measured& b) { return a.cost < b.cost; });
  candidates.resize(std::min(candidates.size(), kClosestRules));
  std::vector<NearMiss> misses;
  for (Measured& candidate : candidates) {
    misses.push_back(std::move(candidate.miss));
  }
  return misses;
}

/// Label keys whose values differ, to explain why the baseline does not allow a flow.
std::vector<std::string> differing_keys(const LabelSet& a, const LabelSet& b) {
  std::vector<std::string> keys;
  const auto collect = [&](const LabelSet& left, const LabelSet& right) {
    for (const auto& [key, value] : left.items()) {
      const std::string* other = right.find(key);
      if ((other == nullptr || *other != value) &&
          std::find(keys.begin(), keys.end(), key) == keys.end()) {
        keys.push_back(key);
      }
    }
  };
  collect(a, b);
  collect(b, a);
  return keys;
}

std::string refusal_text(const Question& q) {
  std::string reason = sentence(Reason::no_rule);
  if (q.from.kind != Endpoint::Kind::workload || q.to.kind != Endpoint::Kind::workload) {
    return reason + ", and the baseline applies only between two workloads";
  }
  if (q.policy.baseline == Baseline::none) {
    return reason + ", and there is no baseline";
  }
  if (!q.from.labels.has_own() || !q.to.labels.has_own()) {
    return reason +
           (q.from.labels.host_keys().empty() && q.to.labels.host_keys().empty()
                ? ", and the baseline does not apply to workloads without labels"
                : ", and the baseline does not apply to workloads without labels of their own: "
                  "[host] labels do not count");
  }
  const auto keys = differing_keys(q.from.labels, q.to.labels);
  if (keys.empty()) {
    return fmt::format("{}, and the baseline {} does not: [host] labels do not count", reason,
                       text(q.policy.baseline));
  }
  return fmt::format("{}, and the baseline {} does not: the labels differ in {}", reason,
                     text(q.policy.baseline), fmt::join(keys, ", "));
}

std::string reason_text(const Question& q, const Decision& decision) {
  std::string reason;
  switch (decision.reason) {
    case Reason::no_rule:
      reason = refusal_text(q);
      break;
    case Reason::baseline:
      reason = fmt::format("the baseline {} allows it", text(q.policy.baseline));
      break;
    default:
      reason = sentence(decision.reason);
      if (decision.rule != nullptr) {
        reason += ": " + decision.rule->text();
      }
  }
  const bool refused = decision.reason == Reason::deny_rule || decision.reason == Reason::no_rule ||
                       decision.reason == Reason::audited_allow;
  if (refused && decision.verdict == Verdict::audit) {
    reason += "; mode = \"audit\" in [defaults] lets it pass";
  }
  return reason;
}

EndDecision end_decision(const ExplainPeer& end, const Decision& decision) {
  if (end.kind != Endpoint::Kind::workload) {
    return {false, "not a workload on this host; only the other end decides"};
  }
  const char* word = decision.verdict == Verdict::deny    ? "denies"
                     : decision.verdict == Verdict::audit ? "allows (audit mode)"
                                                          : "allows";
  return {true, fmt::format(
                    "{}: {}", word,
                    decision.rule != nullptr ? decision.rule->text() : sentence(decision.reason))};
}

const char* verdict_text(const Decision& decision) {
  return decision.verdict == Verdict::deny    ? "denied"
         : decision.verdict == Verdict::audit ? "allowed (audit mode)"
                                              : "allowed";
}

/// Ranks denied above audited above allowed.
bool is_worse(const Decision& a, const Decision& b) {
  const auto rank = [](const Decision& decision) {
    return decision.verdict == Verdict::deny ? 2 : decision.verdict == Verdict::audit ? 1 : 0;
  };
  return rank(a) > rank(b);
}

/// Quarantine denies all traffic, so the rules are not evaluated.
Explanation quarantined(const Policy& policy, const ExplainPeer& from, const ExplainPeer& to,
                        std::string port) {
  Explanation result;
  result.from = from.describe(policy);
  result.to = to.describe(policy);
  result.port = std::move(port);
  const ExplainPeer& blocked = from.quarantine.empty() ? to : from;
  result.reason = fmt::format("{} is in quarantine: {}", blocked.name, blocked.quarantine);
  const auto end = [](const ExplainPeer& peer) -> EndDecision {
    if (peer.kind != Endpoint::Kind::workload) {
      return {false, "not a workload on this host; only the other end decides"};
    }
    return {true, peer.quarantine.empty() ? "the other end denies it" : "denies: quarantine"};
  };
  result.source = end(from);
  result.destination = end(to);
  return result;
}

}  // namespace

Explanation explain(const Policy& policy, const ExplainPeer& from, const ExplainPeer& to,
                    std::uint8_t protocol, std::uint16_t port) {
  if (!from.quarantine.empty() || !to.quarantine.empty()) {
    return quarantined(policy, from, to, port_text(protocol, port));
  }
  const Question q{.policy = policy, .from = from, .to = to, .protocol = protocol, .port = port};
  Explanation result;
  result.decision = evaluate(policy, from.endpoint(), to.endpoint(), protocol, port);
  result.from = from.describe(policy);
  result.to = to.describe(policy);
  result.port = port_text(protocol, port);
  result.reason = reason_text(q, result.decision);
  result.source = end_decision(from, result.decision);
  result.destination = end_decision(to, result.decision);
  if (result.decision.reason == Reason::no_rule ||
      result.decision.reason == Reason::audited_allow) {
    result.closest = closest_rules(q);
  }
  for (const ExplainPeer* peer : {&from, &to}) {
    if (!peer->note.empty()) {
      result.notes.push_back(peer->note);
    }
  }
  for (const Rule& rule : policy.rules) {
    if (rule.mode == Mode::audit && measure(q, rule).cost == 0) {
      result.audited.push_back(&rule);
    }
  }
  return result;
}

Explanation explain(const Policy& policy, const std::vector<ExplainPeer>& from,
                    const std::vector<ExplainPeer>& to, std::uint8_t protocol, std::uint16_t port) {
  if (!from.front().quarantine.empty() || !to.front().quarantine.empty()) {
    return explain(policy, from.front(), to.front(), protocol, port);
  }
  // Only one endpoint can have several parts that matter: policy does not apply between two
  // endpoints without labels.
  const bool varies = from.size() > 1;
  const std::vector<ExplainPeer>& parts = varies ? from : to;
  const auto question = [&](std::size_t part) {
    return Question{.policy = policy,
                    .from = varies ? from[part] : from.front(),
                    .to = varies ? to.front() : to[part],
                    .protocol = protocol,
                    .port = port};
  };
  std::vector<OtherParts> decided;
  std::size_t explained = 0;  // of `decided`
  std::vector<std::size_t> first;
  for (std::size_t part = 0; part < parts.size(); ++part) {
    const Question q = question(part);
    const Decision decision = evaluate(policy, q.from.endpoint(), q.to.endpoint(), protocol, port);
    const auto known = std::ranges::find_if(decided, [&](const OtherParts& other) {
      return other.decision.verdict == decision.verdict &&
             other.decision.reason == decision.reason && other.decision.rule == decision.rule;
    });
    OtherParts& same = known == decided.end() ? decided.emplace_back() : *known;
    if (same.count++ == 0) {
      same.decision = decision;
      same.reason = reason_text(q, decision);
      first.push_back(part);
    }
    if (same.ends.size() < kListedParts) {
      same.ends.push_back(parts[part].describe(policy));
    }
  }
  for (std::size_t i = 1; i < decided.size(); ++i) {
    if (is_worse(decided[i].decision, decided[explained].decision)) {
      explained = i;
    }
  }
  const Question q = question(first[explained]);
  Explanation result = explain(policy, q.from, q.to, protocol, port);
  decided.erase(decided.begin() + static_cast<std::ptrdiff_t>(explained));
  result.others = std::move(decided);
  if (parts.size() == kMostParts) {
    result.notes.push_back(
        fmt::format("only {} parts of {} were checked", kMostParts, parts.front().text));
  }
  return result;
}

std::string Explanation::render() const {
  std::string out = fmt::format("{} -> {} {}: {}\n", from, to, port, verdict_text(decision));
  out += fmt::format("  why:          {}\n", reason);
  if (decision.rule != nullptr && decision.rule->until) {
    out += fmt::format("  until:        {}, when this rule expires\n",
                       policy::text(*decision.rule->until));
  }
  out += fmt::format("  source:       {}\n", source.text);
  out += fmt::format("  destination:  {}\n", destination.text);
  for (const std::string& note : notes) {
    out += fmt::format("  note:         {}\n", note);
  }
  for (const OtherParts& other : others) {
    const std::string more =
        other.count > other.ends.size()
            ? fmt::format(" and {} more parts", other.count - other.ends.size())
            : "";
    out += fmt::format("  other part:   {} at {}{}: {}\n", verdict_text(other.decision),
                       fmt::join(other.ends, ", "), more, other.reason);
  }
  for (const NearMiss& miss : closest) {
    out += fmt::format("  closest rule: {}\n", miss.rule->text());
    for (const std::string& difference : miss.differences) {
      out += fmt::format("                {}\n", difference);
    }
  }
  for (const Rule* rule : audited) {
    out += fmt::format("  audit mode:   {}\n", rule->text());
  }
  return out;
}

const char* text(Baseline baseline) {
  switch (baseline) {
    case Baseline::same_labels:
      return "same-labels";
    case Baseline::any_common_label:
      return "any-common-label";
    case Baseline::none:
      return "none";
  }
  return "none";
}

const char* sentence(Reason reason) {
  switch (reason) {
    case Reason::unprotected:
      return "neither end is a workload";
    case Reason::self:
      return "a workload reaches itself";
    case Reason::deny_rule:
      return "a rule denies it";
    case Reason::audited_deny:
      return "only a rule in audit mode denies it";
    case Reason::allow_rule:
      return "a rule allows it";
    case Reason::baseline:
      return "the baseline allows it";
    case Reason::audited_allow:
      return "only a rule in audit mode would allow it";
    case Reason::no_rule:
      return "no rule allows it";
  }
  return "unknown";
}

}  // namespace trireme::policy
