// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/names.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "trireme/policy/explain.hpp"

namespace trireme::policy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Policy named() {
  Policy policy;
  const auto network = [&policy](const char* name, std::vector<std::string> names) {
    policy.networks.push_back({.name = name, .cidrs = {}, .names = std::move(names), .where = {}});
  };
  network("mirror", {"deb.example.org", "*.pool.example.org"});
  network("all", {"*.example.org"});
  network("near", {});
  policy.networks[2].cidrs.push_back(Prefix::parse("10.0.0.0/8").value());
  Rule rule;
  rule.name = "updates";
  rule.from = {Selector::parse("app=web").value()};
  rule.to = {Entity{Entity::Kind::network, 0}};
  policy.rules.push_back(rule);
  return policy;
}

TEST(NameIndex, ExactNamesAndEveryNameBelowAWildcard) {
  const Policy policy = named();
  const NameIndex index(policy);
  EXPECT_THAT(index.match("deb.example.org"), ElementsAre(0, 1));
  EXPECT_THAT(index.match("a.b.pool.example.org"), ElementsAre(0, 1));
  EXPECT_THAT(index.match("pool.example.org"), ElementsAre(1));
  EXPECT_THAT(index.match("xpool.example.org"), ElementsAre(1));
  for (const char* other :
       {"", ".", "example.org", "xexample.org", "deb.example.org.evil.net", "org"}) {
    EXPECT_THAT(index.match(other), IsEmpty()) << other;
  }
}

TEST(NameIndex, WhetherAnswersAreHeldWithoutTheDaemon) {
  Policy policy = named();
  EXPECT_FALSE(denies_names(policy));
  policy.rules[0].action = Rule::Action::deny;
  EXPECT_TRUE(denies_names(policy));
  policy.rules[0].mode = Mode::audit;
  EXPECT_FALSE(denies_names(policy));
}

std::string explained(const Policy& policy, const char* to, const World& world) {
  const auto from = parse_ends("app=web", policy, world);
  const auto peer = parse_ends(to, policy, world);
  return from && peer ? explain(policy, world, *from, *peer, 6, 443).render() : peer.error().text();
}

TEST(ExplainNames, ANameStandsForWhoeverHasIt) {
  const Policy policy = named();
  EXPECT_THAT(explained(policy, "DEB.example.org.", {}),
              HasSubstr("DEB.example.org. (@world, @mirror, @all) tcp/443: allowed"));
  EXPECT_THAT(explained(policy, "www.example.org", {}),
              HasSubstr("www.example.org (@world, @all) tcp/443: denied"));
  EXPECT_THAT(explained(policy, "@mirror", {}),
              HasSubstr("@mirror (@world, @mirror, @all) tcp/443: allowed"));
  EXPECT_THAT(explained(policy, "www.example.net", {}),
              HasSubstr("a DNS name must be in a [[network]]"));
}

TEST(Explain, LabelsAreReadAsSelectorsWriteThem) {
  const auto ends = parse_ends("app=web, env=prod", {}, {});
  ASSERT_TRUE(ends) << ends.error().text();
  EXPECT_EQ(ends->front().end.labels->text(), "app=web,env=prod");
}

TEST(Explain, AllPortsOfAProtocolAreItsName) {
  EXPECT_EQ(range_text({6, 0, 65535}), "tcp");
  EXPECT_EQ(range_text({17, 1, 65535}), "udp/1-65535");
}

TEST(Explain, NothingReachesAWorkloadInQuarantine) {
  World world;
  world.residents = {{.name = "closed",
                      .labels = {},
                      .state = World::State::quarantined,
                      .reason = "a process has left"},
                     {.name = "open", .labels = {}}};
  for (World::Resident& resident : world.residents) {
    EXPECT_TRUE(resident.labels.set("app", "web"));
  }
  Policy policy;
  policy.mode = Mode::audit;
  const auto web = parse_ends("app=web", policy, world).value();
  const auto closed = parse_ends("closed", policy, world).value();
  const auto open = parse_ends("open", policy, world).value();
  EXPECT_TRUE(explain(policy, world, web, open, 6, 80).passes());
  for (const auto& answer :
       {explain(policy, world, web, closed, 6, 80), explain(policy, world, closed, open, 6, 80)}) {
    EXPECT_FALSE(answer.passes());
    EXPECT_THAT(answer.render(), HasSubstr("closed is in quarantine: a process has left"));
  }
}

TEST(ExplainNames, WhatWasSeenOfANameIsSaid) {
  const Policy policy = named();
  World world;
  EXPECT_THAT(explained(policy, "deb.example.org", world),
              HasSubstr("no DNS answer for deb.example.org was seen"));
  world.networks[0].named = {{Address::parse("10.0.0.1").value(), {"deb.example.org"}},
                             {Address::parse("10.0.0.2").value(), {"deb.example.org"}}};
  EXPECT_THAT(
      explained(policy, "deb.example.org", world),
      testing::AllOf(HasSubstr("deb.example.org at 10.0.0.1 (@world, @mirror, @all, @near)"),
                     HasSubstr("and 1 other")));
  world.networks[0].named = {{Address::parse("10.0.0.1").value(), {"deb.example.org"}}};
  EXPECT_THAT(explained(policy, "10.0.0.1", world),
              HasSubstr("10.0.0.1 (@world, @mirror, @all, @near) tcp/443: allowed"));
}

}  // namespace
}  // namespace trireme::policy
