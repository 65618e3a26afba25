// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/diff.hpp"

#include <gtest/gtest.h>

namespace trireme::policy {
namespace {

LabelSet labels_of(std::string_view key, std::string_view value) {
  LabelSet labels;
  EXPECT_TRUE(labels.set(key, value));
  return labels;
}

class Diff : public testing::Test {
 protected:
  static Rule allow(std::string_view from, std::string_view to, std::vector<PortRange> ports) {
    Rule rule;
    rule.from = {*Selector::parse(from)};
    rule.to = {*Selector::parse(to)};
    rule.ports = std::move(ports);
    rule.where = {"policy.toml", 3, 1};
    return rule;
  }
  static SeenFlow flow(const LabelSet& from, const LabelSet& to, std::uint16_t port,
                       std::uint64_t count) {
    SeenFlow made;
    made.from.labels = from;
    made.to.labels = to;
    made.protocol = 6;
    made.port = port;
    made.count = count;
    return made;
  }

  LabelSet web_ = labels_of("app", "web");
  LabelSet db_ = labels_of("app", "db");
  std::vector<Party> present_ = {party_of(web_), party_of(db_),
                                 party_of(labels_of("app", "other"))};
  Policy before_;
  Policy after_;
};

TEST_F(Diff, EqualPoliciesDifferInNothingWhereverTheirRulesAreWritten) {
  before_.rules = {allow("app=web", "app=db", {{6, 5432, 5432}}), allow("app=other", "app=db", {})};
  after_.rules = {before_.rules[1], before_.rules[0]};
  after_.rules[0].where = {"policy.d/x.toml", 9, 1};
  after_.rules[0].name = "renamed";
  EXPECT_TRUE(diff(before_, after_, {.present = present_}).empty());
}

TEST_F(Diff, RulesForNobodyWhoIsHereAndLoggingAreDifferences) {
  before_.rules = {allow("app=web", "app=db", {{6, 5432, 5432}})};
  after_.rules = {before_.rules[0], allow("app=new", "app=db", {})};
  PolicyDiff found = diff(before_, after_, {.present = present_});
  EXPECT_TRUE(found.access.empty());
  EXPECT_EQ(found.rules, 1U);
  EXPECT_FALSE(found.empty());
  after_.rules = {before_.rules[0]};
  after_.rules[0].log = true;
  EXPECT_EQ(diff(before_, after_, {.present = present_}).rules, 2U) << "each policy has one";
}

TEST_F(Diff, SaysWhoGainsAndWhoLosesWhichPorts) {
  before_.rules = {allow("app=web", "app=db", {{6, 5000, 5009}})};
  after_.rules = {allow("app=web", "app=db", {{6, 5005, 5020}, {17, 53, 53}})};
  const PolicyDiff found = diff(before_, after_, {.present = present_});
  ASSERT_EQ(found.access.size(), 1U);
  EXPECT_EQ(found.access[0].from, std::vector<std::string>{"app=web"});
  EXPECT_EQ(found.access[0].to, std::vector<std::string>{"app=db"});
  EXPECT_EQ(ports_text(found.access[0].gained), "tcp/5010-5020, udp/53");
  EXPECT_EQ(ports_text(found.access[0].lost), "tcp/5000-5004");
}

TEST_F(Diff, ADenyRuleTakesWhatTheBaselineGave) {
  after_.rules = {allow("app=web", "*", {})};
  after_.rules[0].action = Rule::Action::deny;
  const PolicyDiff found = diff(before_, after_, {.present = present_});
  ASSERT_EQ(found.access.size(), 1U);
  EXPECT_EQ(found.access[0].from, found.access[0].to);
  EXPECT_EQ(ports_text(found.access[0].lost), "all ports");
  EXPECT_EQ(found.access[0].because, (std::vector<std::string>{"now: deny (policy.toml:3:1)",
                                                               "was: the baseline allows it"}));
}

TEST_F(Diff, ABaselineThatGoesIsLostAmongEqualLabelsOnly) {
  after_.baseline = Baseline::none;
  const PolicyDiff found = diff(before_, after_, {.present = present_});
  EXPECT_EQ(found.settings, std::vector<std::string>{"baseline: same-labels -> none"});
  ASSERT_EQ(found.access.size(), 1U);
  EXPECT_EQ(found.access[0].only, AccessMap::Relation::equal);
  EXPECT_EQ(found.access[0].from.size(), 3U);
}

TEST_F(Diff, ANetworkThatGrowsOpensTheAddressesItGains) {
  before_.networks = {
      {.name = "dns", .cidrs = {*Prefix::parse("10.0.0.53")}, .names = {}, .where = {}}};
  after_.networks = {{.name = "dns",
                      .cidrs = {*Prefix::parse("10.0.0.53"), *Prefix::parse("10.1.0.0/16")},
                      .names = {},
                      .where = {}}};
  before_.rules = {allow("app=web", "app=db", {{17, 53, 53}})};
  before_.rules[0].to = {Entity{Entity::Kind::network, 0}};
  after_.rules = before_.rules;
  const PolicyDiff found = diff(before_, after_, {.present = present_});
  ASSERT_EQ(found.access.size(), 1U);
  EXPECT_EQ(found.access[0].to, std::vector<std::string>{"10.1.0.0/16"});
  EXPECT_EQ(ports_text(found.access[0].gained), "udp/53");
}

TEST_F(Diff, CountsLiveFlowsThatWouldEnd) {
  before_.rules = {allow("app=web", "app=db", {{6, 5432, 5433}})};
  after_.rules = {allow("app=web", "app=db", {{6, 5432, 5432}})};
  const PolicyDiff found =
      diff(before_, after_,
           {.present = present_,
            .live = {flow(web_, db_, 5432, 4), flow(web_, db_, 5433, 3), flow(web_, web_, 80, 2)}});
  EXPECT_EQ(found.live.flows, 9U);
  EXPECT_EQ(found.live.denied, 3U);
  ASSERT_EQ(found.live.cuts.size(), 1U);
  EXPECT_EQ(found.live.cuts[0].reason, "no rule allows it");
}

TEST_F(Diff, FromAuditToEnforceCutsWhatOnlyAuditLetPass) {
  before_.mode = Mode::audit;
  const PolicyDiff found =
      diff(before_, after_, {.present = present_, .live = {flow(web_, db_, 5432, 4)}});
  EXPECT_EQ(found.settings, std::vector<std::string>{"mode: audit -> enforce"});
  EXPECT_TRUE(found.access.empty());
  EXPECT_EQ(found.live.denied, 4U);
}

TEST_F(Diff, TenThousandLabelSetsTakeNoPairs) {
  std::vector<Party> many;
  for (int i = 0; i < 10'000; ++i) {
    many.push_back(party_of(labels_of("app", "a" + std::to_string(i))));
  }
  for (int i = 0; i < 100; ++i) {
    before_.rules.push_back(
        allow("app=a" + std::to_string(i), "app=a" + std::to_string(i + 1), {{6, 80, 80}}));
  }
  after_ = before_;
  after_.rules[7].ports = {{6, 81, 81}};
  const PolicyDiff found = diff(before_, after_, {.present = std::move(many)});
  ASSERT_EQ(found.access.size(), 1U);
  EXPECT_EQ(found.access[0].from, std::vector<std::string>{"app=a7"});
}

TEST_F(Diff, NetworksByNameCount) {
  Rule rule = allow("app=web", "app=db", {{6, 80, 80}});
  rule.to = {Entity{Entity::Kind::network, 0}};
  after_.networks = {{.name = "mirror", .cidrs = {}, .names = {"deb.example.org"}, .where = {}}};
  after_.rules = {rule};
  SeenFlow live = flow(web_, db_, 80, 2);
  live.to = {};
  live.to.address = *Address::parse("192.0.2.1");
  live.to.names = {"deb.example.org"};
  const PolicyDiff gained = diff(before_, after_, {.present = present_});
  ASSERT_EQ(gained.access.size(), 1U);
  EXPECT_EQ(gained.access[0].to, std::vector<std::string>{"@mirror"});
  EXPECT_EQ(ports_text(gained.access[0].gained), "tcp/80");
  EXPECT_EQ(diff(after_, before_, {.present = present_, .live = {live}}).live.denied, 2U)
      << "it was allowed by its name";
  EXPECT_EQ(diff(after_, after_, {.present = present_, .live = {live}}).live.denied, 0U);
  Policy more = after_;
  more.networks[0].names.emplace_back("*.example.com");
  const PolicyDiff one = diff(after_, more, {.present = present_});
  ASSERT_EQ(one.access.size(), 1U);
  EXPECT_EQ(one.access[0].to, std::vector<std::string>{"*.example.com"});
}

TEST_F(Diff, IdentityIsCompared) {
  const IdentityDiff identity(
      {}, {{.key = "/redis.service", .name = "redis.service", .kind = "unit", .labels = db_}});
  after_.rules = {allow("app=web", "app=db", {{6, 6379, 6379}})};
  before_ = after_;
  SeenFlow open = flow(web_, db_, 6379, 2);
  open.from = {};
  open.from.host = true;
  open.to = {};
  open.to.host = true;
  open.to.cgroup = "/redis.service";
  open.is_local = true;
  const PolicyDiff found =
      diff(before_, after_, {.present = {party_of(web_)}, .identity = identity, .live = {open}});
  EXPECT_FALSE(found.empty()) << "somebody becomes a workload";
  EXPECT_EQ(found.live.denied, 2U) << "@host has no rule";
  ASSERT_EQ(found.identity.changes().size(), 1U);
  EXPECT_EQ(found.identity.changes()[0].live_cut, 2U);
  EXPECT_TRUE(found.access.empty()) << "access of label sets does not change";
  EXPECT_TRUE(diff(before_, after_, {.present = {party_of(web_)}, .live = {open}}).empty());
}

TEST_F(Diff, LabelsThatAppearAreCompared) {
  const LabelSet cache = labels_of("app", "cache");
  const IdentityDiff identity({}, {{.key = "/c", .name = "c", .kind = "unit", .labels = cache}});
  after_.rules = {allow("app=web", "app=cache", {{6, 6379, 6379}})};
  const PolicyDiff found =
      diff(before_, after_, {.present = {party_of(web_)}, .identity = identity});
  ASSERT_EQ(found.access.size(), 1U);
  EXPECT_EQ(found.access[0].to, std::vector<std::string>{"app=cache"});
}

}  // namespace
}  // namespace trireme::policy
