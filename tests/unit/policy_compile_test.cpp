// SPDX-License-Identifier: Apache-2.0
// The compiler's tables, the size of its deltas, and the reuse of its ids. Its decisions are tested
// in policy_compile_property_test.cpp.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "policy_compile_support.hpp"

namespace trireme::policy {
namespace {

constexpr int kMany = 10'000;

std::string numbered(const std::string& prefix, int number) {
  return prefix + std::to_string(number);
}

struct Builder {
  std::shared_ptr<Policy> policy = std::make_shared<Policy>();

  explicit Builder(Baseline baseline) { policy->baseline = baseline; }
  Rule& rule(Peer from, Peer to, std::vector<PortRange> ports = {}) {
    Rule& rule = policy->rules.emplace_back();
    rule.from.push_back(std::move(from));
    rule.to.push_back(std::move(to));
    rule.ports = std::move(ports);
    return rule;
  }
  Rule& deny(Peer from, Peer to, std::vector<PortRange> ports = {}) {
    Rule& denying = rule(std::move(from), std::move(to), std::move(ports));
    denying.action = Rule::Action::deny;
    return denying;
  }
  std::size_t network(const std::vector<std::string>& cidrs) {
    Network& network = policy->networks.emplace_back();
    for (const auto& cidr : cidrs) {
      network.cidrs.push_back(*Prefix::parse(cidr));
    }
    return policy->networks.size() - 1;
  }
};

Peer everybody() {
  return selector("*");
}
Peer host() {
  return Entity{Entity::Kind::host, 0};
}
Peer in_network(std::size_t number) {
  return Entity{Entity::Kind::network, number};
}

// Adds `count` identities {app=ID, ...} and returns the size of the largest of the last 100 deltas.
std::size_t enrol(Compiler& compiler, int count,
                  const std::map<std::string, std::string>& others = {}) {
  std::size_t largest = 0;
  for (int i = 0; i < count; ++i) {
    auto labels = others;
    labels["app"] = numbered("app", i);
    const Delta delta = compiler.add(static_cast<Number>(i) + abi::kFirstNumber, labeled(labels));
    EXPECT_EQ(size(delta.remove), 0U);
    largest = i < count - 100 ? 0 : std::max(largest, size(delta.add));
  }
  return largest;
}

void end_all(Compiler& compiler, int count) {
  for (int i = 0; i < count; ++i) {
    compiler.remove(static_cast<Number>(i) + abi::kFirstNumber);
  }
  EXPECT_EQ(compiler.elements(), Elements{});
}

TEST(CompileSize, TheTenThousandthIdentityAddsThreeElementsWhereRulesCannotTellItApart) {
  Builder builder(Baseline::same_labels);
  builder.rule(selector("app=app1"), selector("app=app2"), {{kTcp, 80, 80}});
  builder.rule(selector("app"), host(), {{kTcp, 53, 53}}).log = true;
  builder.rule(everybody(), in_network(builder.network({"10.0.0.0/8"})));
  builder.rule(everybody(), selector("app=app3"), {{kTcp, 443, 443}});
  Compiler compiler(builder.policy, 1);
  EXPECT_EQ(enrol(compiler, kMany), 3U) << "a group, a class, a group's element of `same`";
  EXPECT_EQ(distinct_classes(compiler.elements()), 4U);
  EXPECT_LE(compiler.elements().pairs.size(), 20U);
  // Ten more workloads of an existing identity need only a group and a class each.
  for (Number number = 20'000; number < 20'010; ++number) {
    const Delta delta = compiler.add(number, labeled({{"app", "app7"}}));
    EXPECT_EQ(size(delta.add), 2U);
    EXPECT_EQ(size(compiler.remove(number).remove), 2U);
  }
  end_all(compiler, kMany);
}

TEST(CompileSize, ARestrictedBaselineCostsOnePairAnIdentity) {
  Builder builder(Baseline::same_labels);
  builder.deny(everybody(), everybody(), {{kTcp, 22, 22}});
  Compiler compiler(builder.policy, 1);
  EXPECT_EQ(enrol(compiler, kMany), 4U);
  EXPECT_EQ(compiler.elements().pairs.size(), std::size_t{kMany});
  EXPECT_EQ(compiler.elements().outcomes.size(), 1U) << "they share a profile: every port but 22";
  end_all(compiler, kMany);
}

TEST(CompileSize, IdentitiesWithOneLabelInCommonShareItsGroup) {
  Builder builder(Baseline::any_common_label);
  builder.rule(everybody(), everybody(), {{kTcp, 443, 443}});
  Compiler compiler(builder.policy, 1);
  // When the first one was added, it was unknown which of its labels others would share, so it
  // needs one pair in each direction. All others need none.
  EXPECT_LE(enrol(compiler, kMany, {{"env", "prod"}}), 4U);
  EXPECT_LE(compiler.elements().same.size(), 2U);
  end_all(compiler, kMany);
}

// Each identity may reach itself on all ports; the rule covers only flows between the two.
TEST(CompileJudge, ADenyingRuleKeepsItsTwoSidesOutOfOneGroup) {
  Builder builder(Baseline::any_common_label);
  builder.deny(selector("app=web"), selector("app=db"));
  Compiler compiler(builder.policy, 1);
  const char* const apps[] = {"other", "web", "db"};
  for (Number i = 0; i < 3; ++i) {
    compiler.add(abi::kFirstNumber + i, labeled({{"app", apps[i]}, {"env", "prod"}}));
  }
  for (Number from = 0; from < 3; ++from) {
    for (Number to = 0; to < 3; ++to) {
      const auto outcome = judge(compiler.tables(), compiler.elements(),
                                 {.number = abi::kFirstNumber + from, .address = {}},
                                 {.number = abi::kFirstNumber + to, .address = {}}, kTcp, 80);
      EXPECT_EQ(outcome.has_value(), !(from == 1 && to == 2)) << apps[from] << " to " << apps[to];
    }
  }
}

// The third has the same own labels as the first, and is added when another of them is the most
// common label.
TEST(CompileJudge, HostLabelsPartNobodyWithTheSameLabels) {
  Builder builder(Baseline::any_common_label);
  Compiler compiler(builder.policy, 1);
  const std::map<std::string, std::string> all[] = {
      {{"app", "web"}, {"env", "dev"}},
      {{"env", "dev"}},
      {{"app", "web"}, {"env", "dev"}, {"=zone", "a"}},
      {{"app", "web"}, {"env", "dev"}, {"=zone", "b"}}};
  for (Number i = 0; i < 4; ++i) {
    compiler.add(abi::kFirstNumber + i, labeled(all[i]));
  }
  const auto expect_all = [&](Number first) {
    for (Number from = first; from < 4; ++from) {
      for (Number to = first; to < 4; ++to) {
        EXPECT_TRUE(judge(compiler.tables(), compiler.elements(),
                          {.number = abi::kFirstNumber + from, .address = {}},
                          {.number = abi::kFirstNumber + to, .address = {}}, kTcp, 80))
            << from << " to " << to;
      }
    }
  };
  expect_all(0);
  compiler.remove(abi::kFirstNumber);  // the one that determined the group
  expect_all(1);
  for (Number i = 1; i < 4; ++i) {
    compiler.remove(abi::kFirstNumber + i);
  }
  EXPECT_EQ(compiler.elements(), Elements{});
}

TEST(CompileSize, DefaultAuditAddsNothing) {
  Builder builder(Baseline::same_labels);
  builder.policy->mode = Mode::audit;
  builder.rule(selector("app=app1"), selector("app=app2"), {{kTcp, 80, 80}});
  Compiler compiler(builder.policy, 1);
  EXPECT_EQ(enrol(compiler, 1'000), 3U);
  EXPECT_EQ(compiler.elements().pairs.size(), 1U);
}

TEST(CompileSize, AThousandRulesMeetAThousandIdentities) {
  constexpr int kCount = 1'000;
  Builder builder(Baseline::same_labels);
  for (int i = 0; i < kCount; ++i) {
    const auto port = static_cast<std::uint16_t>(8000 + i % 10);
    builder.rule(selector(numbered("app=app", i)), selector(numbered("app=app", (i + 1) % kCount)),
                 {{kTcp, port, port}});
  }
  Compiler compiler(builder.policy, 1);
  EXPECT_LE(enrol(compiler, kCount), 5U) << "three elements, and a pair with each neighbor";
  EXPECT_EQ(compiler.elements().pairs.size(), std::size_t{kCount});
  EXPECT_EQ(compiler.elements().outcomes.size(), 10U);
  end_all(compiler, kCount);
}

TEST(CompileTables, PortsThatRulesTreatAlikeShareAClass) {
  Builder builder(Baseline::none);
  builder.rule(everybody(), everybody(), {{kTcp, 80, 80}, {kTcp, 443, 443}, {1, 0, 65535}});
  builder.rule(everybody(), everybody(), {{kTcp, 400, 500}});
  builder.rule(everybody(), everybody());
  const Compiler compiler(builder.policy, 1);
  const std::vector<PortInterval> ports = compiler.tables().ports;
  ASSERT_EQ(ports.size(), 5U);
  EXPECT_EQ(ports[0].range, (PortRange{1, 0, 65535}));
  EXPECT_EQ(ports[1].range, (PortRange{kTcp, 80, 80}));
  EXPECT_EQ(ports[2].range, (PortRange{kTcp, 400, 442}));
  EXPECT_EQ(ports[3].range, (PortRange{kTcp, 443, 443}));
  EXPECT_EQ(ports[4].range, (PortRange{kTcp, 444, 500}));
  EXPECT_EQ(ports[0].port_class, ports[1].port_class);
  EXPECT_EQ(ports[2].port_class, ports[4].port_class);
  EXPECT_NE(ports[3].port_class, ports[1].port_class);
  EXPECT_NE(ports[3].port_class, ports[2].port_class);
}

void expect_whole(const std::vector<AddressInterval>& intervals, const std::string& first,
                  const std::string& last) {
  ASSERT_FALSE(intervals.empty());
  EXPECT_EQ(intervals.front().first, address(first));
  EXPECT_EQ(intervals.back().last, address(last));
  for (std::size_t i = 1; i < intervals.size(); ++i) {
    EXPECT_LT(intervals[i - 1].last, intervals[i].first);
    EXPECT_NE(intervals[i - 1].address_class, intervals[i].address_class);
  }
}

TEST(CompileTables, AddressesAreCutWhereNetworksBeginAndEnd) {
  Builder builder(Baseline::none);
  const std::size_t unused = builder.network({"172.16.0.0/12"});
  const std::size_t network =
      builder.network({"10.0.0.0/9", "10.128.0.0/9", "255.0.0.0/8", "fd00::/8"});
  builder.rule(in_network(network), everybody());
  builder.rule(everybody(), host());
  const Compiler compiler(builder.policy, kSecondHalf);
  const Tables& tables = compiler.tables();
  expect_whole(tables.local4, "0.0.0.0", "255.255.255.255");
  expect_whole(tables.remote4, "0.0.0.0", "255.255.255.255");
  expect_whole(tables.local6, "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
  expect_whole(tables.remote6, "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
  ASSERT_EQ(tables.remote4.size(), 4U)
      << "the network that no rule names (" << unused << ") adds no interval";
  EXPECT_EQ(tables.remote4[1].first, address("10.0.0.0"));
  EXPECT_EQ(tables.remote4[1].last, address("10.255.255.255"));
  EXPECT_EQ(tables.remote4[1].address_class, tables.remote4[3].address_class);
  EXPECT_EQ(tables.remote6.size(), 3U);
  EXPECT_NE(tables.local4[0].address_class, tables.remote4[0].address_class);
  EXPECT_GE(tables.local4[0].address_class, kSecondHalf);
}

TEST(CompileJudge, FlowsWithoutAWorkloadAreOutside) {
  Builder builder(Baseline::none);
  builder.rule(host(), host());
  builder.rule(everybody(), everybody());
  const Compiler compiler(builder.policy, 1);
  const SetPeer local{.number = 0, .address = address("127.0.0.1")};
  EXPECT_FALSE(judge(compiler.tables(), compiler.elements(), local, local, kTcp, 80));
  const SetPeer unknown{.number = abi::kFirstNumber, .address = {}};
  EXPECT_FALSE(judge(compiler.tables(), compiler.elements(), unknown, unknown, kTcp, 80))
      << "never enrolled";
}

TEST(CompileIdentifiers, ComeFromTheHalfAndRestBeforeTheyComeBack) {
  for (const std::uint32_t first : {1U, kSecondHalf}) {
    Builder builder(Baseline::none);
    builder.rule(everybody(), selector("app=web"), {{kTcp, 80, 80}});
    Compiler compiler(builder.policy, first);
    std::set<std::uint32_t> groups;
    for (int i = 0; i < 100; ++i) {
      const Delta delta = compiler.add(abi::kFirstNumber, labeled({{"app", "web"}}));
      for (const auto& [number, group] : delta.add.groups) {
        EXPECT_TRUE(groups.insert(group).second) << "an id was reused at once";
        EXPECT_EQ(group >= kSecondHalf, first == kSecondHalf);
      }
      for (const auto& [pair, profile] : delta.add.pairs) {
        EXPECT_EQ(pair.first >= kSecondHalf, first == kSecondHalf);
        EXPECT_EQ(pair.second >= kSecondHalf, first == kSecondHalf);
        EXPECT_EQ(profile >= kSecondHalf, first == kSecondHalf);
      }
      compiler.remove(abi::kFirstNumber);
    }
    EXPECT_EQ(groups.size(), 100U);
  }
}

TEST(CompileDelta, ANumberEnrolledTwiceHasItsNewLabelsAlone) {
  Builder builder(Baseline::same_labels);
  Compiler compiler(builder.policy, 1);
  Elements sum;
  apply(sum, compiler.add(16, labeled({{"app", "web"}})));
  apply(sum, compiler.add(17, labeled({{"app", "web"}})));
  apply(sum, compiler.add(16, labeled({{"app", "db"}})));
  EXPECT_EQ(sum, compiler.elements());
  EXPECT_NE(sum.groups[16], sum.groups[17]);
  EXPECT_TRUE(compiler.remove(99).empty()) << "no workload has this number";
}

TEST(CompileDelta, ADifferenceRemovesAndAddsWhatChangedItsValue) {
  Elements before;
  before.groups = {{16, 1}, {17, 2}};
  before.same = {1, 2};
  before.outcomes = {{{1, 0}, Outcome::allow}};
  Elements after = before;
  after.groups[16] = 3;
  after.same = {2, 3};
  after.outcomes[{1, 0}] = Outcome::audit;
  const Delta delta = difference(before, after);
  EXPECT_EQ(delta.remove.groups, (std::map<Number, std::uint32_t>{{16, 1}}));
  EXPECT_EQ(delta.add.groups, (std::map<Number, std::uint32_t>{{16, 3}}));
  EXPECT_EQ(delta.remove.same, std::set<std::uint32_t>{1});
  EXPECT_EQ(delta.add.same, std::set<std::uint32_t>{3});
  EXPECT_EQ(delta.remove.outcomes.size(), 1U);
  apply(before, delta);
  EXPECT_EQ(before, after);
}

}  // namespace
}  // namespace trireme::policy
