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
              HasSubstr("www.example.org (@world, @all) tcp/443: refused"));
  EXPECT_THAT(explained(policy, "@mirror", {}),
              HasSubstr("@mirror (@world, @mirror, @all) tcp/443: allowed"));
  EXPECT_THAT(explained(policy, "www.example.net", {}), HasSubstr("name of a [[network]]"));
}

TEST(ExplainNames, WhatWasSeenOfANameIsSaid) {
  const Policy policy = named();
  std::vector<Address> known;
  PeerLookup lookup;
  lookup.addresses = [&known](const std::string&) { return known; };
  lookup.named = [](const Address&) { return std::vector<std::size_t>{0}; };
  EXPECT_THAT(explained(policy, "deb.example.org", lookup),
              HasSubstr("no answer was seen for deb.example.org"));
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
