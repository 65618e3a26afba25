// SPDX-License-Identifier: Apache-2.0
// Compares the compiled sets with evaluate() and with a third evaluator that shares no code with
// either: label sets are plain maps, and networks are ranges written by hand. 100,000 cases; more
// than a million with TRIREME_LONG=1.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "policy_compile_support.hpp"

namespace trireme::policy {
namespace {

// --- an independent model of policy ---

/// The name of an operator in this model. Does not compile if the model lacks an operator; the
/// other models of selectors are in policy_property_test.cpp and tests/system/expected.py.
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

struct PlainPeer {
  std::string kind = "labels";  // or "host", "world", "network"
  std::size_t network = 0;
  std::vector<std::vector<std::string>>
      conditions;  // {key, name_of(operator), values...}; "v*" matches a prefix
};

struct PlainRule {
  bool allow = true, audited = false, log = false;
  std::vector<PlainPeer> from, to;
  std::vector<PortRange> ports;
};

struct PlainPolicy {
  bool audit = false;
  Baseline baseline = Baseline::none;
  std::vector<PlainRule> rules;
};

/// A key with '=' in front marks a [host] label.
using Labels = std::map<std::string, std::string>;

struct PlainEnd {
  const Labels* labels = nullptr;  // workloads
  Number number = 0;
  bool local = false;
  std::string address;
  std::vector<std::size_t> named;  // networks that contain the address by a DNS name
};

struct PlainNetwork {
  std::vector<std::string> cidrs;
  std::vector<std::pair<std::string, std::string>> ranges;
};

const std::vector<PlainNetwork> kNetworks = {
    {{"10.0.0.0/8", "fd00::/8"},
     {{"10.0.0.0", "10.255.255.255"}, {"fd00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}}},
    {{"10.1.0.0/16", "10.0.0.0/24"}, {{"10.1.0.0", "10.1.255.255"}, {"10.0.0.0", "10.0.0.255"}}},
    {{"255.255.255.255/32", "::/0", "fd00::/16"},
     {{"255.255.255.255", "255.255.255.255"}, {"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}}},
    {{"0.0.0.0/0", "ffff::/16"},
     {{"0.0.0.0", "255.255.255.255"}, {"ffff::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}}},
};

const std::vector<std::string> kAddresses = {
    "0.0.0.0",
    "9.255.255.255",
    "10.0.0.0",
    "10.0.0.255",
    "10.0.1.0",
    "10.0.255.255",
    "10.1.0.0",
    "10.1.255.255",
    "10.2.0.0",
    "10.255.255.255",
    "11.0.0.0",
    "127.0.0.1",
    "::",
    "::1",
    "fcff::ffff",
    "fd00::",
    "fd00:1::",
    "fdff:ffff::ffff",
    "fe00::",
    "ffff::",
    "255.255.255.254",
    "255.255.255.255",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
};

bool in_plain_network(std::size_t network, const std::string& text) {
  const Address point = address(text);
  return std::any_of(kNetworks[network].ranges.begin(), kNetworks[network].ranges.end(),
                     [&](const auto& range) {
                       const Address first = address(range.first);
                       return first.family == point.family && first.bytes <= point.bytes &&
                              point.bytes <= address(range.second).bytes;
                     });
}

bool holds(const std::vector<std::string>& condition, const Labels& labels) {
  const auto own = labels.find(condition[0]);
  const auto label = own == labels.end() ? labels.find("=" + condition[0]) : own;
  const bool present = label != labels.end();
  if (condition[1] == "exists" || condition[1] == "absent") {
    return present == (condition[1] == "exists");
  }
  bool listed = false;
  for (std::size_t i = 2; i < condition.size() && present; ++i) {
    const std::string& value = condition[i];
    const bool prefix = !value.empty() && value.back() == '*';
    listed = listed || (prefix ? label->second.rfind(value.substr(0, value.size() - 1), 0) == 0
                               : label->second == value);
  }
  return listed == (condition[1] == "in");
}

bool is_peer(const std::vector<PlainPeer>& peers, const PlainEnd& end) {
  for (const PlainPeer& peer : peers) {
    bool matches = false;
    if (end.labels != nullptr) {
      matches = peer.kind == "labels";
      for (const auto& condition : peer.conditions) {
        matches = matches && holds(condition, *end.labels);
      }
    } else if (peer.kind == "network") {
      matches = in_plain_network(peer.network, end.address) ||
                std::count(end.named.begin(), end.named.end(), peer.network) > 0;
    } else {
      matches = peer.kind == (end.local ? "host" : "world");
    }
    if (matches) {
      return true;
    }
  }
  return false;
}

bool has_own(const Labels& labels) {
  return std::any_of(labels.begin(), labels.end(),
                     [](const auto& label) { return label.first[0] != '='; });
}

Labels without_marks(const Labels& labels) {
  Labels all;
  for (const auto& [key, value] : labels) {
    all[key[0] == '=' ? key.substr(1) : key] = value;
  }
  return all;
}

bool plain_baseline(Baseline baseline, const PlainEnd& from, const PlainEnd& to) {
  if (from.labels == nullptr || to.labels == nullptr || baseline == Baseline::none) {
    return false;
  }
  if (baseline == Baseline::same_labels) {
    return has_own(*from.labels) && has_own(*to.labels) &&
           without_marks(*from.labels) == without_marks(*to.labels);
  }
  return std::any_of(from.labels->begin(), from.labels->end(), [&](const auto& label) {
    const auto other = to.labels->find(label.first);
    return label.first[0] != '=' && other != to.labels->end() && other->second == label.second;
  });
}

std::string plain_answer(const PlainPolicy& policy, const PlainEnd& from, const PlainEnd& to,
                         int protocol, int port) {
  if (from.number != 0 && from.number == to.number) {
    return "allow";
  }
  bool allowed = plain_baseline(policy.baseline, from, to);
  bool denied = false, audited = false, logged = false;
  for (const PlainRule& rule : policy.rules) {
    bool here = rule.ports.empty();
    for (const PortRange& range : rule.ports) {
      here = here || (range.protocol == protocol && range.first <= port && port <= range.last);
    }
    if (!here || !is_peer(rule.from, from) || !is_peer(rule.to, to)) {
      continue;
    }
    denied = denied || (!rule.allow && !rule.audited);
    audited = audited || (!rule.allow && rule.audited);
    allowed = allowed || (rule.allow && !rule.audited);
    logged = logged || (rule.log && !rule.audited);
  }
  if (denied || !allowed) {
    return "refused";
  }
  return audited ? "audit" : logged ? "allow_log" : "allow";
}

// --- the code under test ---

std::string written(const PlainPeer& peer) {
  std::string text;
  for (const auto& condition : peer.conditions) {
    text += text.empty() ? "" : ", ";
    if (condition[1] == "exists" || condition[1] == "absent") {
      text += (condition[1] == "absent" ? "!" : "") + condition[0];
    } else if (condition.size() == 3) {
      text += condition[0] + (condition[1] == "in" ? "=" : "!=") + condition[2];
    } else {
      text += condition[0] + " " + condition[1] + " (";
      for (std::size_t i = 2; i < condition.size(); ++i) {
        text += (i == 2 ? "" : ",") + condition[i];
      }
      text += ")";
    }
  }
  return text.empty() ? "*" : text;
}

Peer real(const PlainPeer& peer) {
  if (peer.kind == "labels") {
    return selector(written(peer));
  }
  const auto kind = peer.kind == "host"    ? Entity::Kind::host
                    : peer.kind == "world" ? Entity::Kind::world
                                           : Entity::Kind::network;
  return Entity{kind, peer.network};
}

std::vector<Network> real_networks() {
  std::vector<Network> networks;
  for (const PlainNetwork& plain : kNetworks) {
    Network& network = networks.emplace_back();
    for (const auto& cidr : plain.cidrs) {
      network.cidrs.push_back(*Prefix::parse(cidr));
    }
  }
  return networks;
}

std::shared_ptr<const Policy> real(const PlainPolicy& plain) {
  auto policy = std::make_shared<Policy>();
  policy->mode = plain.audit ? Mode::audit : Mode::enforce;
  policy->baseline = plain.baseline;
  policy->networks = real_networks();
  for (const PlainRule& rule : plain.rules) {
    Rule& out = policy->rules.emplace_back();
    out.action = rule.allow ? Rule::Action::allow : Rule::Action::deny;
    out.mode = rule.audited ? Mode::audit : Mode::enforce;
    out.log = rule.log;
    out.ports = rule.ports;
    std::transform(rule.from.begin(), rule.from.end(), std::back_inserter(out.from),
                   [](const PlainPeer& peer) { return real(peer); });
    std::transform(rule.to.begin(), rule.to.end(), std::back_inserter(out.to),
                   [](const PlainPeer& peer) { return real(peer); });
  }
  return policy;
}

std::string name(const std::optional<Outcome>& outcome) {
  if (!outcome) {
    return "refused";
  }
  return *outcome == Outcome::allow       ? "allow"
         : *outcome == Outcome::allow_log ? "allow_log"
                                          : "audit";
}

// With [defaults] mode = "audit" the sets are the same; the kernel only lets denied flows pass.
std::string name(const Decision& decision) {
  if (decision.verdict == Verdict::deny ||
      (decision.verdict == Verdict::audit && decision.reason != Reason::audited_deny)) {
    return "refused";
  }
  return decision.verdict == Verdict::audit ? "audit" : decision.log ? "allow_log" : "allow";
}

SetPeer set_peer(const PlainEnd& end) {
  return end.labels != nullptr
             ? SetPeer{.number = end.number, .address = {}}
             : SetPeer{.number = 0, .address = address(end.address), .local = end.local};
}

std::string evaluated(const Policy& policy, const PlainEnd& from, const PlainEnd& to,
                      std::uint8_t protocol, std::uint16_t port) {
  const LabelSet from_labels = labeled(from.labels == nullptr ? Labels{} : *from.labels);
  const LabelSet to_labels = labeled(to.labels == nullptr ? Labels{} : *to.labels);
  const auto endpoint = [](const PlainEnd& end, const LabelSet& labels) {
    Endpoint result;
    if (end.labels != nullptr) {
      result = {.kind = Endpoint::Kind::workload,
                .labels = &labels,
                .workload = end.number,
                .address = {}};
    } else {
      result.kind = end.local ? Endpoint::Kind::host : Endpoint::Kind::world;
      result.address = address(end.address);
      result.named = end.named;
    }
    return result;
  };
  return name(
      evaluate(policy, endpoint(from, from_labels), endpoint(to, to_labels), protocol, port));
}

// --- random policies and workloads, few enough that rules often match ---

class World {
 public:
  explicit World(std::uint32_t seed) : random_(seed) {}

  int pick(std::size_t count) {
    return static_cast<int>(std::uniform_int_distribution<std::size_t>(0, count - 1)(random_));
  }
  bool chance(int percent) { return pick(100) < percent; }

  // Often the labels of an existing workload, so that identities have several members.
  Labels labels(const std::map<Number, Labels>& workloads) {
    if (!workloads.empty() && chance(40)) {
      return std::next(workloads.begin(), pick(workloads.size()))->second;
    }
    Labels labels;
    for (const char* key : {"app", "env", "z"}) {
      if (chance(50)) {
        labels[(chance(25) ? "=" : "") + std::string(key)] = value();
      }
    }
    return labels;
  }

  PlainPolicy policy() {
    PlainPolicy policy;
    policy.audit = chance(15);
    policy.baseline = std::vector{Baseline::none, Baseline::same_labels,
                                  Baseline::any_common_label}[static_cast<std::size_t>(pick(3))];
    for (int i = chance(40) ? pick(3) : pick(10); i > 0; --i) {
      policy.rules.push_back(rule());
    }
    if (!policy.rules.empty() && chance(25)) {  // a baseline, one restriction and little else
      policy.rules.resize(std::min(policy.rules.size(), std::size_t{2}));
      policy.rules.front().allow = false;
    }
    return policy;
  }

  PortRange range() {
    if (chance(15)) {
      return {1, 0, 65535};
    }
    const auto edge = [&] {
      return static_cast<std::uint16_t>(
          std::vector{0, 1, 2, 3, 4, 5, 6, 65534, 65535}[static_cast<std::size_t>(pick(9))]);
    };
    const std::uint16_t a = edge();
    const std::uint16_t b = edge();
    return {static_cast<std::uint8_t>(chance(60) ? 6 : 17), std::min(a, b), std::max(a, b)};
  }

  std::pair<std::uint8_t, std::uint16_t> port() {
    const std::uint8_t protocol =
        std::vector<std::uint8_t>{6, 6, 17, 1, 47}[static_cast<std::size_t>(pick(5))];
    const std::uint16_t ports[] = {0, 1, 2, 3, 4, 5, 6, 7, 40000, 65534, 65535};
    return {protocol, protocol == 6 || protocol == 17 ? ports[pick(11)] : std::uint16_t{0}};
  }

  PlainEnd end(const std::map<Number, Labels>& workloads, int workload_percent) {
    if (!workloads.empty() && chance(workload_percent)) {
      const auto workload = std::next(workloads.begin(), pick(workloads.size()));
      return {&workload->second, workload->first, false, {}, {}};
    }
    return {
        nullptr, 0, chance(50), kAddresses[static_cast<std::size_t>(pick(kAddresses.size()))], {}};
  }

  /// Gives a random address networks by a DNS name, or removes its names.
  std::pair<std::string, std::vector<std::size_t>> name() {
    std::vector<std::size_t> networks;
    for (std::size_t network = 0; network < kNetworks.size(); network++) {
      if (chance(40)) {
        networks.push_back(network);
      }
    }
    return {kAddresses[static_cast<std::size_t>(pick(kAddresses.size()))], networks};
  }

 private:
  std::string value() {
    return std::vector<std::string>{"", "a", "ab", "b"}[static_cast<std::size_t>(pick(4))];
  }

  PlainPeer peer() {
    PlainPeer peer;
    peer.kind = std::vector<std::string>{"labels", "labels", "labels", "labels",
                                         "host",   "world",  "network"}[static_cast<std::size_t>(
        pick(7))];
    peer.network = peer.kind == "network" ? static_cast<std::size_t>(pick(kNetworks.size())) : 0;
    for (int i = chance(40) ? 0 : pick(3); i > 0; --i) {
      const std::string key =
          std::vector<std::string>{"app", "env", "z"}[static_cast<std::size_t>(pick(3))];
      using Operator = Requirement::Operator;
      const std::string op =
          name_of(std::vector{Operator::in, Operator::in, Operator::not_in, Operator::exists,
                              Operator::not_exists}[static_cast<std::size_t>(pick(5))]);
      std::vector<std::string> condition = {key, op};
      if (op == "in" || op == "notin") {
        condition.push_back(value() + (chance(25) ? "*" : ""));
        if (condition[2].size() > 0 && chance(40)) {
          condition.push_back("b" + std::string(chance(50) ? "*" : ""));
        }
      }
      peer.conditions.push_back(condition);
    }
    return peer;
  }

  PlainRule rule() {
    PlainRule rule;
    rule.allow = chance(65);
    rule.audited = chance(rule.allow ? 15 : 50);
    rule.log = chance(25);
    rule.from.push_back(peer());
    rule.to.push_back(peer());
    if (chance(30)) {
      rule.from.push_back(peer());
      rule.to.push_back(peer());
    }
    for (int i = chance(45) ? 0 : 1 + pick(2); i > 0; --i) {
      rule.ports.push_back(range());
    }
    return rule;
  }

  std::mt19937 random_;
};

// Adds and removes workloads at random, and compares the compiler with the two evaluators after
// every step.
class Trial {
 public:
  Trial(World& world, std::map<std::string, int>& seen)
      : world_(world),
        seen_(seen),
        plain_(world.policy()),
        policy_(real(plain_)),
        first_id_(world.chance(50) ? 1 : kSecondHalf),
        compiler_(policy_, first_id_) {}

  void go(int steps, int flows) {
    for (int step = 0; step < steps && !testing::Test::HasFailure(); ++step) {
      change();
      for (int flow = 0; flow < flows && !testing::Test::HasFailure(); ++flow) {
        check(compiler_);
      }
    }
    reload(flows);
    while (!workloads_.empty()) {
      end(workloads_.begin()->first);
    }
    while (!named_.empty()) {
      rename({named_.begin()->first, {}});
    }
    EXPECT_EQ(compiler_.elements(), Elements{}) << "removed workloads leave elements behind";
    EXPECT_EQ(sum_, Elements{});
  }

  int cases = 0;

 private:
  void end(Number number) {
    apply(sum_, compiler_.remove(number));
    workloads_.erase(number);
  }

  void rename(const std::pair<std::string, std::vector<std::size_t>>& change) {
    const auto& [text, networks] = change;
    apply(sum_, networks.empty() ? compiler_.unname(address(text))
                                 : compiler_.name(address(text), networks));
    if (networks.empty()) {
      named_.erase(text);
    } else {
      named_[text] = networks;
    }
  }

  void change() {
    if (world_.chance(30)) {
      rename(world_.name());
    } else if (!workloads_.empty() && world_.chance(30)) {
      end(std::next(workloads_.begin(), world_.pick(workloads_.size()))->first);
    } else {
      const auto number =
          static_cast<Number>(abi::kFirstNumber + static_cast<Number>(world_.pick(40)));
      if (workloads_.contains(number)) {
        return;
      }
      Labels labels = world_.labels(workloads_);
      workloads_[number] = std::move(labels);
      apply(sum_, compiler_.add(number, labeled(workloads_[number])));
    }
    ASSERT_EQ(sum_, compiler_.elements()) << "the deltas do not add up";
  }

  void check(const Compiler& compiler) {
    PlainEnd from = world_.end(workloads_, 75);
    PlainEnd to = world_.end(workloads_, from.labels != nullptr ? 75 : 100);
    for (PlainEnd* end : {&from, &to}) {
      const auto name = named_.find(end->address);
      end->named = name == named_.end() ? std::vector<std::size_t>() : name->second;
    }
    if (from.labels == nullptr && to.labels == nullptr) {
      return;
    }
    const auto [protocol, port] = world_.port();
    const std::string expected = plain_answer(plain_, from, to, protocol, port);
    ASSERT_EQ(evaluated(*policy_, from, to, protocol, port), expected);
    const std::string judged = name(judge(compiler.tables(), compiler.elements(), set_peer(from),
                                          set_peer(to), protocol, port));
    ASSERT_EQ(judged, expected) << describe(from) << " to " << describe(to) << " at "
                                << int{protocol} << "/" << port;
    ++seen_[expected];
    ++cases;
  }

  // Compiles the same workloads in another order, with ids from the other half of the range.
  void reload(int flows) {
    Compiler fresh(policy_, first_id_ == 1 ? kSecondHalf : 1);
    for (auto workload = workloads_.rbegin(); workload != workloads_.rend(); ++workload) {
      fresh.add(workload->first, labeled(workload->second));
    }
    for (const auto& [text, networks] : named_) {
      fresh.name(address(text), networks);
    }
    for (int flow = 0; flow < flows && !testing::Test::HasFailure(); ++flow) {
      check(fresh);
    }
    Elements copy = compiler_.elements();
    apply(copy, difference(compiler_.elements(), fresh.elements()));
    copy.local_named = fresh.elements().local_named;  // not part of a difference
    copy.remote_named = fresh.elements().remote_named;
    EXPECT_EQ(copy, fresh.elements());
    EXPECT_TRUE(difference(fresh.elements(), fresh.elements()).empty());
  }

  static std::string describe(const PlainEnd& end) {
    return end.labels != nullptr ? "{" + labeled(*end.labels).text() + "}"
                                 : (end.local ? "host " : "world ") + end.address;
  }

  World& world_;
  std::map<std::string, int>& seen_;
  PlainPolicy plain_;
  std::shared_ptr<const Policy> policy_;
  std::uint32_t first_id_;
  Compiler compiler_;
  std::map<Number, Labels> workloads_;
  std::map<std::string, std::vector<std::size_t>> named_;
  Elements sum_;
};

TEST(CompileProperty, JudgesAsTheEvaluatorsDo) {
  const char* longer = std::getenv("TRIREME_LONG");
  const int wanted = longer != nullptr && std::string(longer) == "1" ? 1'200'000 : 100'000;
  World world(20240229);
  std::map<std::string, int> seen;
  int cases = 0;
  for (int policy = 0; cases < wanted; ++policy) {
    Trial trial(world, seen);
    trial.go(16, 10);
    cases += trial.cases;
    ASSERT_FALSE(HasFailure()) << "policy " << policy;
  }
  RecordProperty("cases", cases);
  // A new draw of the generator may change every case. These thresholds are what has to hold.
  for (const char* outcome : {"allow", "allow_log", "audit", "refused"}) {
    EXPECT_GT(seen[outcome], cases / 200) << "the cases do not reach " << outcome;
  }
}

}  // namespace
}  // namespace trireme::policy
