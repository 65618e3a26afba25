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

std::string explained(const Policy& policy, const char* to, const PeerLookup& lookup) {
  const auto from = parse_peer("app=web", policy, lookup);
  const auto peer = parse_peer(to, policy, lookup);
  return from && peer ? explain(policy, *from, *peer, 6, 443).render() : peer.error().text();
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
  const auto peer = parse_peer("app=web, env=prod", {}, {});
  ASSERT_TRUE(peer) << peer.error().text();
  EXPECT_EQ(peer->labels.text(), "app=web,env=prod");
}

TEST(Explain, AllPortsOfAProtocolAreItsName) {
  EXPECT_EQ(range_text({6, 0, 65535}), "tcp");
  EXPECT_EQ(range_text({17, 1, 65535}), "udp/1-65535");
}

TEST(Explain, NothingReachesAWorkloadInQuarantine) {
  PeerLookup lookup;
  lookup.workload = [](std::string_view name) -> std::optional<ExplainPeer> {
    if (name.find('=') != std::string_view::npos) {
      return std::nullopt;
    }
    ExplainPeer peer;
    peer.name = name;
    peer.kind = Endpoint::Kind::workload;
    EXPECT_TRUE(peer.labels.set("app", "web"));
    peer.quarantine = name == "closed" ? "a process has left" : "";
    return peer;
  };
  Policy policy;
  policy.mode = Mode::audit;
  const auto web = parse_peer("app=web", policy, lookup).value();
  const auto closed = parse_peer("closed", policy, lookup).value();
  const auto open = parse_peer("open", policy, lookup).value();
  EXPECT_TRUE(explain(policy, web, open, 6, 80).passes());
  for (const auto& answer :
       {explain(policy, web, closed, 6, 80), explain(policy, closed, open, 6, 80)}) {
    EXPECT_FALSE(answer.passes());
    EXPECT_THAT(answer.render(), HasSubstr("closed is in quarantine: a process has left"));
  }
}

TEST(ExplainNames, WhatWasSeenOfANameIsSaid) {
  const Policy policy = named();
  std::vector<Address> known;
  PeerLookup lookup;
  lookup.addresses = [&known](const std::string&) { return known; };
  lookup.named = [](const Address&) { return std::vector<std::size_t>{0}; };
  EXPECT_THAT(explained(policy, "deb.example.org", lookup),
              HasSubstr("no DNS answer for deb.example.org was seen"));
  known = {Address::parse("10.0.0.1").value(), Address::parse("10.0.0.2").value()};
  EXPECT_THAT(
      explained(policy, "deb.example.org", lookup),
      testing::AllOf(HasSubstr("deb.example.org at 10.0.0.1 (@world, @mirror, @all, @near)"),
                     HasSubstr("and 1 other")));
  EXPECT_THAT(explained(policy, "10.0.0.1", lookup),
              HasSubstr("10.0.0.1 (@world, @mirror, @near) tcp/443: allowed"));
}

}  // namespace
}  // namespace trireme::policy
