// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/evaluate.hpp"

#include <gtest/gtest.h>

namespace trireme::policy {
namespace {

constexpr std::uint8_t kTcp = 6;
constexpr std::uint8_t kUdp = 17;
constexpr std::uint8_t kIcmp = 1;
constexpr std::uint8_t kGre = 47;

LabelSet make(std::initializer_list<std::pair<std::string_view, std::string_view>> items) {
  LabelSet labels;
  for (const auto& [key, value] : items) {
    EXPECT_TRUE(labels.set(key, value)) << key;
  }
  return labels;
}

class Evaluate : public testing::Test {
 protected:
  static Peer selector(std::string_view text) { return *Selector::parse(text); }
  static Peer host() { return Entity{Entity::Kind::host, 0}; }
  static Peer world() { return Entity{Entity::Kind::world, 0}; }
  static Peer network(std::size_t index) { return Entity{Entity::Kind::network, index}; }

  Rule& rule(Rule::Action action, Peer from, Peer to) {
    Rule rule;
    rule.action = action;
    rule.from.push_back(std::move(from));
    rule.to.push_back(std::move(to));
    policy_.rules.push_back(std::move(rule));
    return policy_.rules.back();
  }
  Rule& allow(Peer from, Peer to) {
    return rule(Rule::Action::allow, std::move(from), std::move(to));
  }
  Rule& deny(Peer from, Peer to) {
    return rule(Rule::Action::deny, std::move(from), std::move(to));
  }

  static Endpoint workload(const LabelSet& labels, std::uint64_t id = 0) {
    return {Endpoint::Kind::workload, &labels, id, std::nullopt};
  }
  static Endpoint unlabeled(Endpoint::Kind kind, std::string_view address = {}) {
    return {kind, nullptr, 0,
            address.empty() ? std::nullopt : std::optional(*Address::parse(address))};
  }

  [[nodiscard]] Decision judge(const Endpoint& from, const Endpoint& to,
                               std::uint8_t protocol = kTcp, std::uint16_t port = 80) const {
    return evaluate(policy_, from, to, protocol, port);
  }

  Policy policy_;
  LabelSet web_ = make({{"app", "web"}});
  LabelSet web_prod_ = make({{"app", "web"}, {"env", "prod"}});
  LabelSet db_ = make({{"app", "db"}});
  LabelSet none_;
};

void expect(const Decision& decision, Verdict verdict, Reason reason) {
  EXPECT_STREQ(text(decision.verdict), text(verdict));
  EXPECT_STREQ(text(decision.reason), text(reason));
}

TEST_F(Evaluate, FlowsWithoutAWorkloadAreNotOurs) {
  deny(selector("*"), selector("*"));
  policy_.mode = Mode::audit;
  expect(judge(unlabeled(Endpoint::Kind::host), unlabeled(Endpoint::Kind::world)), Verdict::allow,
         Reason::unprotected);
}

TEST_F(Evaluate, AWorkloadReachesItselfWhateverTheRules) {
  deny(selector("*"), selector("*"));
  expect(judge(workload(none_, 7), workload(none_, 7)), Verdict::allow, Reason::self);
  expect(judge(workload(web_, 7), workload(web_, 8)), Verdict::deny, Reason::deny_rule);
  expect(judge(workload(web_, 0), workload(web_, 0)), Verdict::deny, Reason::deny_rule);
}

TEST_F(Evaluate, BaselineSameLabelsNeedsTheSameNonEmptySet) {
  expect(judge(workload(web_, 1), workload(web_, 2)), Verdict::allow, Reason::baseline);
  expect(judge(workload(web_), workload(web_prod_)), Verdict::deny, Reason::no_rule);
  expect(judge(workload(none_, 1), workload(none_, 2)), Verdict::deny, Reason::no_rule);
  expect(judge(workload(web_), unlabeled(Endpoint::Kind::host)), Verdict::deny, Reason::no_rule);
  expect(judge(unlabeled(Endpoint::Kind::world), workload(web_)), Verdict::deny, Reason::no_rule);
}

TEST_F(Evaluate, BaselineAnyCommonLabelComparesKeyAndValue) {
  policy_.baseline = Baseline::any_common_label;
  expect(judge(workload(web_), workload(web_prod_)), Verdict::allow, Reason::baseline);
  expect(judge(workload(web_), workload(db_)), Verdict::deny, Reason::no_rule);
  const LabelSet swapped = make({{"prod", "env"}, {"web", "app"}});
  expect(judge(workload(web_prod_), workload(swapped)), Verdict::deny, Reason::no_rule);
  expect(judge(workload(none_, 1), workload(none_, 2)), Verdict::deny, Reason::no_rule);
}

TEST_F(Evaluate, BaselineNoneLeavesTheRulesAlone) {
  policy_.baseline = Baseline::none;
  expect(judge(workload(web_), workload(web_)), Verdict::deny, Reason::no_rule);
  allow(selector("app=web"), selector("app=web"));
  expect(judge(workload(web_), workload(web_)), Verdict::allow, Reason::allow_rule);
}

TEST_F(Evaluate, RulesHaveADirection) {
  allow(selector("app=web"), selector("app=db"));
  expect(judge(workload(web_), workload(db_)), Verdict::allow, Reason::allow_rule);
  expect(judge(workload(db_), workload(web_)), Verdict::deny, Reason::no_rule);
}

TEST_F(Evaluate, DenyWinsWhateverTheOrder) {
  for (const bool deny_first : {true, false}) {
    policy_.rules.clear();
    rule(deny_first ? Rule::Action::deny : Rule::Action::allow, selector("*"), selector("*"));
    rule(deny_first ? Rule::Action::allow : Rule::Action::deny, selector("app"), selector("app"));
    expect(judge(workload(web_), workload(db_)), Verdict::deny, Reason::deny_rule);
    expect(judge(workload(web_), workload(web_, 2)), Verdict::deny, Reason::deny_rule);
  }
}

TEST_F(Evaluate, TheFirstMatchingRuleInTheFileIsNamed) {
  allow(selector("app=db"), selector("*"));
  allow(selector("app=web"), selector("*")).name = "first";
  allow(selector("*"), selector("*")).name = "second";
  const Decision decision = judge(workload(web_), workload(db_));
  ASSERT_NE(decision.rule, nullptr);
  EXPECT_EQ(decision.rule->name, "first");
}

TEST_F(Evaluate, PortsCountByProtocolAndRange) {
  allow(selector("*"), selector("*")).ports = {{kTcp, 80, 90}, {kUdp, 53, 53}, {kIcmp, 0, 65535}};
  policy_.baseline = Baseline::none;
  const auto verdict = [&](std::uint8_t protocol, std::uint16_t port) {
    return judge(workload(web_), workload(db_), protocol, port).verdict;
  };
  EXPECT_EQ(verdict(kTcp, 79), Verdict::deny);
  EXPECT_EQ(verdict(kTcp, 80), Verdict::allow);
  EXPECT_EQ(verdict(kTcp, 90), Verdict::allow);
  EXPECT_EQ(verdict(kTcp, 91), Verdict::deny);
  EXPECT_EQ(verdict(kUdp, 53), Verdict::allow);
  EXPECT_EQ(verdict(kUdp, 80), Verdict::deny);
  EXPECT_EQ(verdict(kIcmp, 0), Verdict::allow);
  EXPECT_EQ(verdict(58, 0), Verdict::deny);
  EXPECT_EQ(verdict(kGre, 0), Verdict::deny);
  policy_.rules[0].ports.clear();
  EXPECT_EQ(verdict(kGre, 0), Verdict::allow) << "a rule without ports covers every protocol";
}

TEST_F(Evaluate, SelectorsMatchWorkloadsOnly) {
  allow(selector("*"), selector("*"));
  allow(selector("!app"), selector("app!=x"));
  expect(judge(unlabeled(Endpoint::Kind::host), workload(web_)), Verdict::deny, Reason::no_rule);
  expect(judge(unlabeled(Endpoint::Kind::world, "192.0.2.1"), workload(web_)), Verdict::deny,
         Reason::no_rule);
  expect(judge(workload(web_), unlabeled(Endpoint::Kind::host, "127.0.0.1")), Verdict::deny,
         Reason::no_rule);
}

TEST_F(Evaluate, HostAndWorldAreDisjointAndNeverWorkloads) {
  allow(host(), selector("app=web"));
  allow(world(), selector("app=db"));
  expect(judge(unlabeled(Endpoint::Kind::host), workload(web_)), Verdict::allow,
         Reason::allow_rule);
  expect(judge(unlabeled(Endpoint::Kind::world), workload(web_)), Verdict::deny, Reason::no_rule);
  expect(judge(unlabeled(Endpoint::Kind::host), workload(db_)), Verdict::deny, Reason::no_rule);
  expect(judge(unlabeled(Endpoint::Kind::world), workload(db_)), Verdict::allow,
         Reason::allow_rule);
  expect(judge(workload(web_prod_), workload(web_)), Verdict::deny, Reason::no_rule);
}

TEST_F(Evaluate, NetworksAreByAddressOfEitherKind) {
  policy_.networks.push_back(
      {"ten", {*Prefix::parse("10.0.0.0/8"), *Prefix::parse("fd00::/8")}, {}, {}});
  policy_.networks.push_back({"names only", {}, {"deb.example.org"}, {}});
  allow(network(0), selector("app=web"));
  allow(network(1), selector("app=web"));
  for (const auto kind : {Endpoint::Kind::host, Endpoint::Kind::world}) {
    expect(judge(unlabeled(kind, "10.1.2.3"), workload(web_)), Verdict::allow, Reason::allow_rule);
    expect(judge(unlabeled(kind, "fd00::1"), workload(web_)), Verdict::allow, Reason::allow_rule);
    expect(judge(unlabeled(kind, "192.0.2.1"), workload(web_)), Verdict::deny, Reason::no_rule);
    expect(judge(unlabeled(kind), workload(web_)), Verdict::deny, Reason::no_rule);
  }
  Endpoint addressed = workload(db_);
  addressed.address = *Address::parse("10.1.2.3");
  expect(judge(addressed, workload(web_)), Verdict::deny, Reason::no_rule);
}

TEST_F(Evaluate, AnAuditedDenyLetsPassAndSaysSo) {
  Rule& audited = deny(selector("app=web"), selector("*"));
  audited.mode = Mode::audit;
  expect(judge(workload(web_, 1), workload(web_, 2)), Verdict::audit, Reason::audited_deny);
  expect(judge(workload(web_), workload(db_)), Verdict::deny, Reason::no_rule);
  allow(selector("app=web"), selector("app=db"));
  const Decision decision = judge(workload(web_), workload(db_));
  expect(decision, Verdict::audit, Reason::audited_deny);
  EXPECT_EQ(decision.rule, policy_.rules.data());
}

TEST_F(Evaluate, AnAuditedAllowChangesNothingButTheReason) {
  allow(selector("app=web"), selector("app=db")).mode = Mode::audit;
  const Decision decision = judge(workload(web_), workload(db_));
  expect(decision, Verdict::deny, Reason::audited_allow);
  EXPECT_EQ(decision.rule, policy_.rules.data());
  allow(selector("app=web"), selector("*"));
  expect(judge(workload(web_), workload(db_)), Verdict::allow, Reason::allow_rule);
}

TEST_F(Evaluate, PolicyInAuditModeRefusesNothing) {
  policy_.mode = Mode::audit;
  deny(selector("app=web"), selector("app=db"));
  allow(selector("app=db"), selector("*")).mode = Mode::audit;
  expect(judge(workload(web_), workload(db_)), Verdict::audit, Reason::deny_rule);
  expect(judge(workload(db_), workload(web_)), Verdict::audit, Reason::audited_allow);
  expect(judge(workload(web_prod_), workload(web_)), Verdict::audit, Reason::no_rule);
  expect(judge(workload(web_, 1), workload(web_, 2)), Verdict::allow, Reason::baseline);
}

TEST_F(Evaluate, LogIsAskedForByAnyRuleInForceThatMatches) {
  allow(selector("app=web"), selector("app=db"));
  EXPECT_FALSE(judge(workload(web_), workload(db_)).log);
  allow(selector("*"), selector("*")).log = true;
  EXPECT_TRUE(judge(workload(web_), workload(db_)).log);
  policy_.rules[1].mode = Mode::audit;
  EXPECT_FALSE(judge(workload(web_), workload(db_)).log);
  deny(selector("app=web"), selector("*")).log = true;
  EXPECT_TRUE(judge(workload(web_), workload(db_)).log);
  EXPECT_FALSE(judge(workload(db_), workload(web_)).log);
}

TEST_F(Evaluate, AListOfPeersIsOr) {
  Rule& rule = allow(selector("app=web"), selector("app=db"));
  rule.from.push_back(host());
  expect(judge(workload(web_), workload(db_)), Verdict::allow, Reason::allow_rule);
  expect(judge(unlabeled(Endpoint::Kind::host), workload(db_)), Verdict::allow, Reason::allow_rule);
  expect(judge(workload(web_prod_), workload(db_)), Verdict::allow, Reason::allow_rule);
  expect(judge(unlabeled(Endpoint::Kind::world), workload(db_)), Verdict::deny, Reason::no_rule);
}

TEST(Rule, TextNamesRuleAndPlace) {
  Rule rule;
  rule.where = {"policy.toml", 12, 1};
  EXPECT_EQ(rule.text(), "allow (policy.toml:12:1)");
  rule.name = "web to db";
  rule.action = Rule::Action::deny;
  EXPECT_EQ(rule.text(), "deny 'web to db' (policy.toml:12:1)");
  EXPECT_EQ((SourceLocation{"policy.toml", 0, 0}).text(), "policy.toml");
}

/// With the [host] label zone=eu.
LabelSet on_host(LabelSet labels) {
  EXPECT_TRUE(labels.add_host_labels(make({{"zone", "eu"}})));
  return labels;
}

TEST_F(Evaluate, HostLabelsAloneMatchNobodyByTheBaseline) {
  const LabelSet bare = on_host({});
  const LabelSet own = make({{"zone", "eu"}});
  for (const Baseline baseline : {Baseline::same_labels, Baseline::any_common_label}) {
    policy_.baseline = baseline;
    EXPECT_EQ(judge(workload(bare), workload(bare)).verdict, Verdict::deny);
    EXPECT_EQ(judge(workload(bare), workload(own)).verdict, Verdict::deny);
    EXPECT_EQ(judge(workload(own), workload(bare)).verdict, Verdict::deny);
    EXPECT_EQ(judge(workload(bare, 7), workload(bare, 7)).reason, Reason::self);
  }
  // Selectors match them like own labels.
  allow(selector("zone=eu"), selector("zone=eu"));
  EXPECT_EQ(judge(workload(bare), workload(bare)).verdict, Verdict::allow);
}

TEST_F(Evaluate, HostLabelsAreNoCommonLabel) {
  policy_.baseline = Baseline::any_common_label;
  const LabelSet web = on_host(web_);
  const LabelSet db = on_host(db_);
  const LabelSet prod = on_host(web_prod_);
  EXPECT_EQ(judge(workload(web), workload(db)).verdict, Verdict::deny);
  EXPECT_EQ(judge(workload(web), workload(prod)).verdict, Verdict::allow) << "app=web";
  const LabelSet own = make({{"app", "db"}, {"zone", "eu"}});
  EXPECT_EQ(judge(workload(web), workload(own)).verdict, Verdict::deny);
  EXPECT_EQ(judge(workload(own), workload(web)).verdict, Verdict::deny);
}

TEST_F(Evaluate, SameLabelsComparesHostLabels) {
  policy_.baseline = Baseline::same_labels;
  const LabelSet web = on_host(web_);
  EXPECT_EQ(judge(workload(web), workload(on_host(web_))).verdict, Verdict::allow);
  EXPECT_EQ(judge(workload(web), workload(web_)).verdict, Verdict::deny) << "another host";
  LabelSet us = web_;
  ASSERT_TRUE(us.add_host_labels(make({{"zone", "us"}})));
  EXPECT_EQ(judge(workload(web), workload(us)).verdict, Verdict::deny);
  const LabelSet own = make({{"app", "web"}, {"zone", "eu"}});
  EXPECT_EQ(judge(workload(web), workload(own)).verdict, Verdict::allow) << "[host] or own labels";
}

}  // namespace
}  // namespace trireme::policy
