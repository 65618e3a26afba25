// SPDX-License-Identifier: Apache-2.0
#include "explain_question.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace trireme::policy {
namespace {

constexpr std::size_t kClosestRules = 3;
constexpr std::size_t kMostCost = 2;  // of a rule that is close
// An endpoint of another kind costs more than one requirement that does not match.
constexpr std::size_t kOtherKind = 2;

/// The distance of an endpoint or port from what a rule requires. Cost 0: the rule covers it.
struct Gap {
  std::size_t cost = 0;
  std::string text;
};

Gap selector_gap(const char* side, const Selector& selector, const View& end) {
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
             const View& end, const std::string& text) {
  Gap nearest;
  for (const Peer& peer : peers) {
    if (covers(policy, peer, end.endpoint())) {
      return {};
    }
    const auto* selector = std::get_if<Selector>(&peer);
    Gap gap = selector != nullptr
                  ? selector_gap(side, *selector, end)
                  : Gap{kOtherKind, fmt::format("requires {0} {1}, but the {0} is {2}", side,
                                                peer_text(policy, peer), text)};
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

struct Measured {
  std::size_t cost = 0;
  bool fits = false;  // one of the endpoints does
  NearMiss miss;
};

Measured measure(const Question& q, const Rule& rule) {
  const Gap source = side_gap(q.policy, "source", rule.from, q.from, q.from_text);
  const Gap destination = side_gap(q.policy, "destination", rule.to, q.to, q.to_text);
  const Gap port = port_gap(rule, q.protocol, q.port);
  Measured measured;
  measured.miss.rule = &rule;
  measured.fits = source.cost == 0 || destination.cost == 0;
  for (const Gap* gap : {&source, &destination, &port}) {
    if (gap->cost > 0) {
      measured.cost += gap->cost;
      measured.miss.differences.push_back(gap->text);
    }
  }
  const bool is_opposite =
      side_gap(q.policy, "source", rule.from, q.to, q.to_text).cost == 0 &&
      side_gap(q.policy, "destination", rule.to, q.from, q.from_text).cost == 0 && port.cost == 0;
  if (measured.cost > 0 && is_opposite) {
    measured.cost = 1;
    measured.fits = true;
    measured.miss.differences = {"allows only the opposite direction"};
  }
  return measured;
}

}  // namespace

bool applies(const Question& q, const Rule& rule) {
  return measure(q, rule).cost == 0;
}

std::vector<NearMiss> closest_rules(const Question& q) {
  std::vector<Measured> candidates;
  for (const Rule& rule : q.policy.rules) {
    if (rule.action != Rule::Action::allow || rule.mode != Mode::enforce) {
      continue;
    }
    Measured measured = measure(q, rule);
    if (measured.fits && measured.cost > 0 && measured.cost <= kMostCost) {
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

}  // namespace trireme::policy
