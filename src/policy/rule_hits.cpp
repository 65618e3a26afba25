// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/rule_hits.hpp"

#include <algorithm>

#include "trireme/policy/explain.hpp"

namespace trireme::policy {
namespace {

constexpr const char* kBaseline = "baseline";
constexpr const char* kNoRule = "no rule";

/// Equal for rules that say the same, wherever they are. Names and selectors cannot contain a NUL.
std::string content(const Policy& policy, const Rule& rule) {
  std::string text = rule.action == Rule::Action::allow ? "allow" : "deny";
  text += rule.mode == Mode::audit ? " audit" : "";
  text += '\0' + rule.name;
  for (const auto* peers : {&rule.from, &rule.to}) {
    text += '\0';
    for (const Peer& peer : *peers) {
      text += '\0' + peer_text(policy, peer);
    }
  }
  text += '\0';
  for (const PortRange& range : rule.ports) {
    text += '\0' + range_text(range);
  }
  return text;
}

/// The key of a flow that no rule decided; empty if something else than policy decided.
std::string without_rule(const Flow& flow) {
  if (flow.reason == sentence(Reason::baseline)) {
    return kBaseline;
  }
  return flow.reason == sentence(Reason::no_rule) ? kNoRule : "";
}

}  // namespace

void RuleHits::use(const Policy& policy, Time now) {
  std::map<std::string, Count> counts;
  by_text_.clear();
  const auto keep = [&](const std::string& key) {
    const auto known = counts_.find(key);
    counts[key] =
        known != counts_.end() ? known->second : Count{.hits = 0, .last = {}, .since = now};
  };
  for (const Rule& rule : policy.rules) {
    std::string key = content(policy, rule);
    keep(key);
    by_text_[rule.text()] = std::move(key);
  }
  keep(kBaseline);
  keep(kNoRule);
  counts_ = std::move(counts);
}

void RuleHits::count(const Flow& flow) {
  std::string key;
  if (flow.rule.empty()) {
    key = without_rule(flow);
  } else if (const auto known = by_text_.find(flow.rule); known != by_text_.end()) {
    key = known->second;
  }
  const auto counted = counts_.find(key);
  if (counted == counts_.end()) {
    return;
  }
  Count& count = counted->second;
  count.hits++;
  count.last = count.last ? std::max(*count.last, flow.time) : flow.time;
}

std::vector<RuleHits::Line> RuleHits::lines(const Policy& policy) const {
  std::vector<Line> lines;
  const auto add = [&](std::string text, const Rule* rule, const std::string& key) {
    if (const auto counted = counts_.find(key); counted != counts_.end()) {
      lines.push_back({.text = std::move(text), .rule = rule, .count = counted->second});
    }
  };
  for (const Rule& rule : policy.rules) {
    add(rule.text(), &rule, content(policy, rule));
  }
  add(kBaseline, nullptr, kBaseline);
  add(kNoRule, nullptr, kNoRule);
  return lines;
}

}  // namespace trireme::policy
