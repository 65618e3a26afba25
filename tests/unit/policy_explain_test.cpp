// SPDX-License-Identifier: Apache-2.0
// Explanations of flows to and from a network: every part that rules distinguish counts.
#include "trireme/policy/explain.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace trireme::policy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

Network network(const char* name, std::initializer_list<const char*> cidrs,
                std::vector<std::string> names = {}) {
  Network made = {.name = name, .cidrs = {}, .names = std::move(names), .where = {}};
  for (const char* cidr : cidrs) {
    made.cidrs.push_back(Prefix::parse(cidr).value());
  }
  return made;
}

Rule rule(Rule::Action action, std::size_t network, const char* name) {
  Rule made;
  made.action = action;
  made.name = name;
  made.from = {Selector::parse("app=web").value()};
  made.to = {Entity{Entity::Kind::network, network}};
  made.where = {.file = "policy.toml", .line = 1, .column = 1};
  return made;
}

/// 10.0.0.0/8 and 192.0.2.0/24 are corp. 10.1.0.0/16 is also lab, which web must not reach.
Policy corp() {
  Policy policy;
  policy.networks = {network("corp", {"10.0.0.0/8", "192.0.2.0/24"}),
                     network("lab", {"10.1.0.0/16"})};
  policy.rules = {rule(Rule::Action::allow, 0, "to corp"), rule(Rule::Action::deny, 1, "no lab")};
  return policy;
}

Explanation asked(const Policy& policy, const char* from, const char* to,
                  const PeerLookup& lookup = {}) {
  return explain(policy, parse_peers(from, policy, lookup).value(),
                 parse_peers(to, policy, lookup).value(), 6, 80);
}

TEST(ExplainNetwork, PartsThatAreDecidedDifferentlyAreNamed) {
  const Policy policy = corp();
  const Explanation answer = asked(policy, "app=web", "@corp");
  EXPECT_FALSE(answer.passes()) << "one part is denied";
  EXPECT_EQ(answer.to, "10.1.0.0 (@world, @corp, @lab)");
  ASSERT_EQ(answer.others.size(), 1U);
  EXPECT_THAT(answer.others[0].ends, ElementsAre("10.0.0.0 (@world, @corp)"));
  EXPECT_EQ(answer.others[0].decision.verdict, Verdict::allow);
  EXPECT_THAT(answer.render(),
              HasSubstr("app=web -> 10.1.0.0 (@world, @corp, @lab) tcp/80: denied\n"));
  EXPECT_THAT(answer.render(),
              HasSubstr("  other part:   allowed at 10.0.0.0 (@world, @corp): a rule allows it: "
                        "allow 'to corp' (policy.toml:1:1)\n"));
}

TEST(Explain, AClosestRuleSaysWhatItRequires) {
  const Policy policy = corp();
  EXPECT_THAT(asked(policy, "app=db,env=dev", "10.0.0.1").render(),
              HasSubstr("  closest rule: allow 'to corp' (policy.toml:1:1)\n"
                        "                requires source app=web, but the source has app=db\n"));
  EXPECT_THAT(asked(policy, "env=dev", "10.0.0.1").render(),
              HasSubstr("requires source app=web, but the source has no label app\n"));
  EXPECT_THAT(asked(policy, "app=web", "203.0.113.1").render(),
              HasSubstr("requires destination @corp, but the destination is 203.0.113.1 (@world)"));
}

TEST(ExplainNetwork, ALaterCidrCountsAsMuchAsTheFirst) {
  Policy policy = corp();
  policy.networks[0] = network("corp", {"10.1.0.0/16", "192.0.2.0/24"});
  policy.rules = {rule(Rule::Action::allow, 1, "to lab")};
  const Explanation answer = asked(policy, "app=web", "@corp");
  EXPECT_FALSE(answer.passes());
  EXPECT_EQ(answer.to, "192.0.2.0 (@world, @corp)");
  EXPECT_EQ(answer.others.size(), 1U);
}

TEST(ExplainNetwork, ASourceHasPartsToo) {
  Policy policy = corp();
  for (Rule& each : policy.rules) {
    std::swap(each.from, each.to);
  }
  const Explanation answer = asked(policy, "@corp", "app=web");
  EXPECT_FALSE(answer.passes());
  EXPECT_EQ(answer.from, "10.1.0.0 (@world, @corp, @lab)");
  EXPECT_EQ(answer.others.size(), 1U);
}

TEST(ExplainNetwork, NothingIsAddedWhereAllOfItIsDecidedAlike) {
  const Policy policy = corp();
  for (const auto& [from, to] : {std::pair{"app=db", "@corp"},
                                 {"app=web", "@lab"},
                                 {"app=web", "10.0.0.1"},
                                 {"@lab", "@corp"},
                                 {"@host", "@corp"}}) {
    const Explanation answer = asked(policy, from, to);
    EXPECT_THAT(answer.others, IsEmpty()) << from << " " << to;
    EXPECT_THAT(answer.render(), Not(HasSubstr("other part")));
  }
  EXPECT_EQ(asked(policy, "app=db", "@corp").to, "10.0.0.0 (@world, @corp)") << "the first address";
}

TEST(ExplainNetwork, NamesAreParts) {
  Policy policy = corp();
  policy.networks[0] = network("mirror", {}, {"deb.example.org", "a.example.net"});
  policy.networks[1] = network("net", {}, {"*.example.net"});
  const Explanation answer = asked(policy, "app=web", "@mirror");
  EXPECT_EQ(answer.to, "a.example.net (@world, @mirror, @net)");
  ASSERT_EQ(answer.others.size(), 1U);
  EXPECT_THAT(answer.others[0].ends, ElementsAre("deb.example.org (@world, @mirror)"));
}

TEST(ExplainNetwork, EachAddressOfANameIsAsked) {
  Policy policy = corp();
  policy.networks[0] = network("mirror", {}, {"deb.example.org"});
  PeerLookup lookup;
  lookup.addresses = [](const std::string&) {
    return std::vector{Address::parse("192.0.2.1").value(), Address::parse("10.1.0.1").value()};
  };
  for (const char* to : {"@mirror", "deb.example.org"}) {
    const Explanation answer = asked(policy, "app=web", to, lookup);
    EXPECT_FALSE(answer.passes());
    EXPECT_THAT(answer.to, HasSubstr("10.1.0.1 (@world, @mirror, @lab)"));
    EXPECT_EQ(answer.others.size(), 1U);
  }
}

TEST(ExplainNetwork, OfManyPartsAFewAreListed) {
  Policy policy = corp();
  for (int i = 0; i < 600; ++i) {
    policy.networks.push_back(
        network("n", {fmt::format("10.{}.{}.0/24", 2 + i / 256, i % 256).c_str()}));
  }
  const Explanation answer = asked(policy, "app=web", "@corp");
  ASSERT_EQ(answer.others.size(), 1U);
  EXPECT_EQ(answer.others[0].ends.size(), 3U);
  EXPECT_EQ(answer.others[0].count, kMostParts - 1);
  EXPECT_THAT(answer.render(), HasSubstr(" and 252 more parts: a rule allows it"));
  EXPECT_THAT(answer.notes, ElementsAre("only 256 parts of @corp were checked"));
}

TEST(ExplainNetwork, QuarantineIsTheWholeAnswer) {
  const Policy policy = corp();
  auto quarantined = parse_peers("app=web", policy, {}).value();
  quarantined.front().quarantine = "a process has left";
  const Explanation answer =
      explain(policy, quarantined, parse_peers("@corp", policy, {}).value(), 6, 80);
  EXPECT_FALSE(answer.passes());
  EXPECT_THAT(answer.others, IsEmpty());
  EXPECT_THAT(answer.reason, HasSubstr("quarantine"));
}

}  // namespace
}  // namespace trireme::policy
