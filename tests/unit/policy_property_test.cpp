// SPDX-License-Identifier: Apache-2.0
// Compares evaluate() with a second evaluator that shares no code with it: label sets are plain
// maps, selectors are data that is never parsed, and the semantics of trireme-policy.toml(5) are
// checked one by one. 60,000 cases; a million with TRIREME_LONG=1.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "trireme/policy/evaluate.hpp"

namespace trireme::policy {
namespace {

using Labels = std::map<std::string, std::string>;

/// The name of an operator in this model. Does not compile if the model lacks an operator; the
/// other models of selectors are in policy_compile_property_test.cpp and tests/system/expected.py.
std::string name_of(Requirement::Operator op) {
  switch (op) {
    case Requirement::Operator::in:
      return "in";
    case Requirement::Operator::not_in:
      return "notin";
    case Requirement::Operator::exists:
      return "exists";
    case Requirement::Operator::not_exists:
      return "absent";
  }
  return "";
}

struct NaiveRequirement {
  std::string key;
  std::string op;  // see name_of()
  std::vector<std::string> exact;
  std::vector<std::string> prefixes;
};

struct NaivePeer {
  std::string kind;  // "labels", "host", "world", "network"
  std::vector<NaiveRequirement> all_of;
  std::size_t network = 0;
};

struct NaiveRule {
  bool allow = true;
  bool audited = false;
  bool log = false;
  std::vector<NaivePeer> from;
  std::vector<NaivePeer> to;
  std::vector<PortRange> ports;
};

struct NaiveEnd {
  std::string kind;  // "workload", "host", "world"
  Labels labels;
  std::uint64_t workload = 0;
  int address = -1;  // index into kAddresses
};

const char* const kAddresses[] = {"10.0.0.1", "10.1.0.1", "192.0.2.1", "fd00::1", "2001:db8::1"};
const std::vector<std::string> kCidrs[] = {
    {"10.0.0.0/8", "fd00::/8"}, {"10.1.0.0/16"}, {"192.0.2.1/32", "::/0"}};
// kMembers[network][address], written by hand.
const bool kMembers[3][5] = {{true, true, false, true, false},
                             {false, true, false, false, false},
                             {false, false, true, true, true}};

bool holds(const NaiveRequirement& requirement, const Labels& labels) {
  const bool present = labels.count(requirement.key) > 0;
  if (requirement.op == "exists") {
    return present;
  }
  if (requirement.op == "absent") {
    return !present;
  }
  bool listed = false;
  for (const auto& value : requirement.exact) {
    listed = listed || (present && labels.at(requirement.key) == value);
  }
  for (const auto& prefix : requirement.prefixes) {
    listed =
        listed || (present && labels.at(requirement.key).compare(0, prefix.size(), prefix) == 0);
  }
  return requirement.op == "in" ? listed : !listed;
}

bool is_peer(const std::vector<NaivePeer>& peers, const NaiveEnd& end) {
  for (const auto& peer : peers) {
    if (peer.kind == "labels" && end.kind == "workload") {
      bool all = true;
      for (const auto& requirement : peer.all_of) {
        all = all && holds(requirement, end.labels);
      }
      if (all) {
        return true;
      }
    }
    if ((peer.kind == "host" || peer.kind == "world") && peer.kind == end.kind) {
      return true;
    }
    if (peer.kind == "network" && end.kind != "workload" && end.address >= 0 &&
        kMembers[peer.network][end.address]) {
      return true;
    }
  }
  return false;
}

struct NaivePolicy {
  bool audit = false;
  int baseline = 0;  // 0 same labels, 1 any common label, 2 none
  std::vector<NaiveRule> rules;
};

bool rule_matches(const NaiveRule& rule, const NaiveEnd& from, const NaiveEnd& to, int protocol,
                  int port) {
  bool port_matches = rule.ports.empty();
  for (const auto& range : rule.ports) {
    port_matches =
        port_matches || (range.protocol == protocol && range.first <= port && port <= range.last);
  }
  return port_matches && is_peer(rule.from, from) && is_peer(rule.to, to);
}

bool baseline_holds(int baseline, const NaiveEnd& from, const NaiveEnd& to) {
  if (from.kind != "workload" || to.kind != "workload" || from.labels.empty() ||
      to.labels.empty() || baseline == 2) {
    return false;
  }
  if (baseline == 0) {
    return from.labels == to.labels;
  }
  for (const auto& label : from.labels) {
    for (const auto& other : to.labels) {
      if (label == other) {
        return true;
      }
    }
  }
  return false;
}

// "verdict reason index log"; the index is that of the deciding rule, or -1.
std::string naive_evaluate(const NaivePolicy& policy, const NaiveEnd& from, const NaiveEnd& to,
                           int protocol, int port) {
  if (from.kind != "workload" && to.kind != "workload") {
    return "allow unprotected -1 0";
  }
  if (from.kind == "workload" && to.kind == "workload" && from.workload != 0 &&
      from.workload == to.workload) {
    return "allow self -1 0";
  }
  int first[2][2] = {{-1, -1}, {-1, -1}};  // [allow][audited]
  bool log = false;
  for (int i = static_cast<int>(policy.rules.size()) - 1; i >= 0; --i) {
    const NaiveRule& rule = policy.rules[static_cast<std::size_t>(i)];
    if (rule_matches(rule, from, to, protocol, port)) {
      first[rule.allow ? 1 : 0][rule.audited ? 1 : 0] = i;
      log = log || (rule.log && !rule.audited);
    }
  }
  const bool allowed = first[1][0] >= 0 || baseline_holds(policy.baseline, from, to);
  const std::string refuse = policy.audit ? "audit" : "deny";
  const std::string tail = log ? " 1" : " 0";
  if (first[0][0] >= 0) {
    return refuse + " deny_rule " + std::to_string(first[0][0]) + tail;
  }
  if (!allowed) {
    return refuse + (first[1][1] >= 0 ? " audited_allow " : " no_rule ") +
           std::to_string(first[1][1]) + tail;
  }
  if (first[0][1] >= 0) {
    return "audit audited_deny " + std::to_string(first[0][1]) + tail;
  }
  return first[1][0] >= 0 ? "allow allow_rule " + std::to_string(first[1][0]) + tail
                          : "allow baseline -1" + tail;
}

// Random cases over few enough labels and addresses that rules often match, and their conversion
// for evaluate().
class Generator {
 public:
  explicit Generator(std::uint32_t seed) : random_(seed) {}

  int pick(int count) { return std::uniform_int_distribution<int>(0, count - 1)(random_); }
  bool chance(int percent) { return pick(100) < percent; }

  Labels labels() {
    Labels labels;
    for (const char* key : kKeys) {
      if (chance(55)) {
        labels[key] = kValues[pick(4)];
      }
    }
    return labels;
  }

  NaiveEnd end() {
    NaiveEnd end;
    const int kind = pick(10);
    end.kind = kind < 8 ? "workload" : kind == 8 ? "host" : "world";
    if (end.kind == "workload") {
      end.labels = labels();
      end.workload = static_cast<std::uint64_t>(pick(4));
    }
    end.address = pick(6) - 1;
    return end;
  }

  NaivePolicy policy() {
    NaivePolicy policy;
    policy.audit = chance(15);
    policy.baseline = pick(3);
    const int rules = pick(7);
    for (int i = 0; i < rules; ++i) {
      policy.rules.push_back(rule());
    }
    return policy;
  }

 private:
  NaiveRequirement requirement() {
    NaiveRequirement requirement;
    requirement.key = kKeys[pick(3)];
    using Operator = Requirement::Operator;
    const Operator ops[] = {Operator::in, Operator::in, Operator::not_in, Operator::exists,
                            Operator::not_exists};
    requirement.op = name_of(ops[pick(5)]);
    if (requirement.op == "in" || requirement.op == "notin") {
      const int count = 1 + pick(2);
      for (int i = 0; i < count; ++i) {
        // A list cannot contain an empty value, so kValues[0] is used only for single values.
        (chance(30) ? requirement.prefixes : requirement.exact)
            .emplace_back(kValues[count == 1 ? pick(4) : 1 + pick(3)]);
      }
    }
    return requirement;
  }

  std::vector<NaivePeer> peers() {
    std::vector<NaivePeer> peers;
    const int count = 1 + pick(2);
    for (int i = 0; i < count; ++i) {
      NaivePeer peer;
      const int kind = pick(10);
      peer.kind = kind < 6 ? "labels" : kind == 6 ? "host" : kind == 7 ? "world" : "network";
      peer.network = static_cast<std::size_t>(pick(3));
      const int requirements = pick(3);
      for (int r = 0; r < requirements; ++r) {
        peer.all_of.push_back(requirement());
      }
      peers.push_back(std::move(peer));
    }
    return peers;
  }

  NaiveRule rule() {
    NaiveRule rule;
    rule.allow = chance(65);
    rule.audited = chance(25);
    rule.log = chance(20);
    rule.from = peers();
    rule.to = peers();
    const int ranges = chance(50) ? 0 : 1 + pick(2);
    for (int i = 0; i < ranges; ++i) {
      const auto first = static_cast<std::uint16_t>(1 + pick(4));
      rule.ports.push_back(chance(20)
                               ? PortRange{1, 0, 65535}
                               : PortRange{static_cast<std::uint8_t>(chance(50) ? 6 : 17), first,
                                           static_cast<std::uint16_t>(first + pick(3))});
    }
    return rule;
  }

  static constexpr const char* kKeys[] = {"app", "env", "a"};
  static constexpr const char* kValues[] = {"", "a", "ab", "b"};
  std::mt19937 random_;
};

std::string written(const NaiveRequirement& requirement, Generator& generator) {
  if (requirement.op == "exists") {
    return requirement.key;
  }
  if (requirement.op == "absent") {
    return "!" + requirement.key;
  }
  std::vector<std::string> values = requirement.exact;
  for (const auto& prefix : requirement.prefixes) {
    values.push_back(prefix + "*");
  }
  // A single value can be written as `=` or as a list, unless it is empty.
  if (values.size() == 1 && (values[0].empty() || generator.chance(50))) {
    return requirement.key + (requirement.op == "in" ? "=" : "!=") + values[0];
  }
  std::string text = requirement.key + " " + requirement.op + " (";
  for (std::size_t i = 0; i < values.size(); ++i) {
    text += (i == 0 ? "" : ", ") + values[i];
  }
  return text + ")";
}

Peer real(const NaivePeer& peer, Generator& generator) {
  if (peer.kind != "labels") {
    const auto kind = peer.kind == "host"    ? Entity::Kind::host
                      : peer.kind == "world" ? Entity::Kind::world
                                             : Entity::Kind::network;
    return Entity{kind, kind == Entity::Kind::network ? peer.network : 0};
  }
  std::string text;
  for (const auto& requirement : peer.all_of) {
    text += (text.empty()           ? ""
             : generator.chance(50) ? ","
                                    : " , ") +
            written(requirement, generator);
  }
  const auto selector = Selector::parse(text.empty() ? "*" : text);
  EXPECT_TRUE(selector) << text << ": " << selector.error().error.text();
  return *selector;
}

Policy real(const NaivePolicy& naive, Generator& generator) {
  Policy policy;
  policy.mode = naive.audit ? Mode::audit : Mode::enforce;
  policy.baseline = naive.baseline == 0   ? Baseline::same_labels
                    : naive.baseline == 1 ? Baseline::any_common_label
                                          : Baseline::none;
  for (const auto& cidrs : kCidrs) {
    Network network;
    for (const auto& cidr : cidrs) {
      network.cidrs.push_back(*Prefix::parse(cidr));
    }
    policy.networks.push_back(std::move(network));
  }
  for (const auto& rule : naive.rules) {
    Rule out;
    out.action = rule.allow ? Rule::Action::allow : Rule::Action::deny;
    out.mode = rule.audited ? Mode::audit : Mode::enforce;
    out.log = rule.log;
    out.ports = rule.ports;
    for (const auto& peer : rule.from) {
      out.from.push_back(real(peer, generator));
    }
    for (const auto& peer : rule.to) {
      out.to.push_back(real(peer, generator));
    }
    policy.rules.push_back(std::move(out));
  }
  return policy;
}

Endpoint real(const NaiveEnd& end, const LabelSet& labels) {
  Endpoint out;
  out.kind = end.kind == "workload" ? Endpoint::Kind::workload
             : end.kind == "host"   ? Endpoint::Kind::host
                                    : Endpoint::Kind::world;
  out.labels = end.kind == "workload" ? &labels : nullptr;
  out.workload = end.workload;
  if (end.address >= 0) {
    out.address = *Address::parse(kAddresses[end.address]);
  }
  return out;
}

LabelSet real(const Labels& labels) {
  LabelSet out;
  for (const auto& [key, value] : labels) {
    EXPECT_TRUE(out.set(key, value));
  }
  return out;
}

std::string real_evaluate(const Policy& policy, const NaiveEnd& from, const NaiveEnd& to,
                          int protocol, int port) {
  const LabelSet from_labels = real(from.labels);
  const LabelSet to_labels = real(to.labels);
  const Decision decision =
      evaluate(policy, real(from, from_labels), real(to, to_labels),
               static_cast<std::uint8_t>(protocol), static_cast<std::uint16_t>(port));
  const auto index = decision.rule == nullptr ? -1 : decision.rule - policy.rules.data();
  return std::string(text(decision.verdict)) + " " + text(decision.reason) + " " +
         std::to_string(index) + (decision.log ? " 1" : " 0");
}

TEST(EvaluateProperty, AgreesWithTheNaiveEvaluator) {
  const char* longer = std::getenv("TRIREME_LONG");
  const int policies = longer != nullptr && std::string(longer) == "1" ? 50'000 : 3'000;
  constexpr int kFlows = 20;
  Generator generator(20240229);
  std::map<std::string, int> seen;
  for (int p = 0; p < policies; ++p) {
    const NaivePolicy naive = generator.policy();
    const Policy policy = real(naive, generator);
    for (int f = 0; f < kFlows; ++f) {
      const NaiveEnd from = generator.end();
      const NaiveEnd to = generator.end();
      const int protocols[] = {6, 17, 1, 47};
      const int protocol = protocols[generator.pick(4)];
      const int port = protocol == 6 || protocol == 17 ? 1 + generator.pick(6) : 0;
      const std::string expected = naive_evaluate(naive, from, to, protocol, port);
      ASSERT_EQ(real_evaluate(policy, from, to, protocol, port), expected)
          << "policy " << p << ", flow " << f;
      ++seen[expected.substr(0, expected.find(' ', expected.find(' ') + 1))];
    }
  }
  // A new draw of the generator may change every case. These thresholds are what has to hold.
  for (const char* outcome :
       {"allow unprotected", "allow self", "allow baseline", "allow allow_rule", "deny deny_rule",
        "deny no_rule", "deny audited_allow", "audit audited_deny", "audit deny_rule",
        "audit no_rule", "audit audited_allow"}) {
    EXPECT_GT(seen[outcome], 50) << "the cases do not reach " << outcome;
  }
}

}  // namespace
}  // namespace trireme::policy
