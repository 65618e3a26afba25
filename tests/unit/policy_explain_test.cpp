// SPDX-License-Identifier: Apache-2.0
// Explanations of flows: every part of an endpoint that rules distinguish counts, and what people
// are told.
#include "trireme/policy/explain.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace trireme::policy {
namespace {

using testing::Contains;
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

Explanation asked(const Policy& policy, const std::string& from, const std::string& to,
                  const World& world = {}) {
  return explain(policy, world, parse_ends(from, policy, world).value(),
                 parse_ends(to, policy, world).value(), 6, 80);
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

TEST(Explain, ASelectorIsNotAnEndpoint) {
  for (const char* text : {"app=web*", "app!=web", "app==web", "env in (a, b)", "!app", "app,env",
                           "app=web, env notin (a)", "*"}) {
    const auto ends = parse_ends(text, corp(), {});
    ASSERT_FALSE(ends) << text;
    EXPECT_EQ(ends.error().message,
              fmt::format("'{}' is a selector, not the labels of one workload", text));
  }
  EXPECT_TRUE(parse_ends("app=hey!, env=prod", corp(), {}));
  // These are not selectors either.
  for (const char* text : {"app", "web*", "app=a*b", "app~=web", "app=a,app=b"}) {
    const auto ends = parse_ends(text, corp(), {});
    ASSERT_FALSE(ends) << text;
    EXPECT_THAT(ends.error().message, testing::Not(HasSubstr("selector"))) << text;
  }
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
  World world;
  world.networks[0].named = {{Address::parse("192.0.2.1").value(), {"deb.example.org"}},
                             {Address::parse("10.1.0.1").value(), {"deb.example.org"}}};
  for (const char* to : {"@mirror", "deb.example.org"}) {
    const Explanation answer = asked(policy, "app=web", to, world);
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
  World world;
  world.residents = {{.name = "shut",
                      .labels = {},
                      .state = World::State::quarantined,
                      .reason = "a process has left"}};
  const Explanation answer = asked(corp(), "shut", "@corp", world);
  EXPECT_FALSE(answer.passes());
  EXPECT_THAT(answer.others, IsEmpty());
  EXPECT_THAT(answer.reason, HasSubstr("quarantine"));
  EXPECT_EQ(answer.source.text, "denies: shut is in quarantine: a process has left");
}

TEST(Explain, OnlyCloseRulesAreListed) {
  Policy policy;
  const auto add = [&policy](const char* from, const char* to, const char* name) {
    Rule made;
    made.name = name;
    made.from = {Selector::parse(from).value()};
    made.to = {Selector::parse(to).value()};
    policy.rules.push_back(std::move(made));
  };
  add("app=web,a=1,b=2", "app=db", "three labels away");
  add("app=web,a=1", "app=db", "two labels away");
  add("app=x", "app=y", "neither end fits");
  policy.rules.push_back(policy.rules.back());
  policy.rules.back().name = "but its port does";
  policy.rules.back().ports = {{6, 80, 80}};
  const Explanation answer = asked(policy, "app=front", "app=db");
  ASSERT_EQ(answer.closest.size(), 1U);
  EXPECT_EQ(answer.closest[0].rule->name, "two labels away");
}

/// This host and a container on its bridge, with a second container in the network of the first.
World bridged() {
  World world;
  const auto at = [](const char* text) { return Address::parse(text).value(); };
  const auto labels = [](const char* app) {
    LabelSet set;
    EXPECT_TRUE(set.set("app", app));
    return set;
  };
  world.networks = {
      {.name = "this host", .addresses = {{at("10.0.0.7"), 24}, {at("172.17.0.1"), 16}}},
      {.name = "shop", .addresses = {{at("172.17.0.2"), 32}}}};
  world.residents = {{.name = "web.scope", .labels = labels("web"), .number = 16},
                     {.name = "shop", .labels = labels("shop"), .number = 17, .networks = {1}},
                     {.name = "side", .labels = labels("side"), .number = 18, .networks = {1}},
                     {.name = "alone",
                      .labels = labels("alone"),
                      .state = World::State::unenforced,
                      .reason = "left alone",
                      .networks = {}}};
  world.peers = {Prefix::parse("10.0.0.0/24").value()};
  return world;
}

Rule allow(Peer from, Peer to, const char* name) {
  Rule made;
  made.name = name;
  made.from = {std::move(from)};
  made.to = {std::move(to)};
  made.where = {.file = "policy.toml", .line = 1, .column = 1};
  return made;
}

const Entity kHost{.kind = Entity::Kind::host};
const Entity kWorld{.kind = Entity::Kind::world};

TEST(ExplainWorld, TheHostAndABridgeContainer) {
  Policy policy;
  const Selector shop = Selector::parse("app=shop").value();
  policy.rules = {allow(kHost, shop, "host")};
  for (const char* to : {"shop", "app=shop"}) {
    const Explanation denied = asked(policy, "@host", to, bridged());
    EXPECT_FALSE(denied.passes()) << to;
    EXPECT_EQ(denied.from, "@host at 172.17.0.1 (@world)");
    EXPECT_THAT(denied.notes,
                ElementsAre("the other end is in the network of shop: there, a process of this "
                            "host without labels is @world"));
    EXPECT_FALSE(denied.source.judged);
    EXPECT_EQ(denied.destination.text, "denies: no rule allows it");
    EXPECT_EQ(denied.toml,
              "[[network]]\nname = \"172.17.0.1\"\ncidrs = [\"172.17.0.1\"]\n\n"
              "[[allow]]\nname = \"@172.17.0.1 to app=shop\"\nfrom = \"@172.17.0.1\"\n"
              "to = \"app=shop\"\nports = [\"tcp/80\"]\n");
  }
  policy.rules = {allow(kWorld, shop, "world")};
  EXPECT_TRUE(asked(policy, "@host", "shop", bridged()).passes());
  EXPECT_TRUE(asked(policy, "10.0.0.7", "shop", bridged()).passes()) << "another address of it";
  EXPECT_FALSE(asked(policy, "@host", "web.scope", bridged()).passes());
  EXPECT_FALSE(asked(policy, "127.0.0.1", "shop", bridged()).passes())
      << "loopback is in the network of the container";
}

TEST(ExplainWorld, AnAddressOfAContainerIsTheContainer) {
  Policy policy;
  policy.rules = {allow(Selector::parse("app=web").value(), Selector::parse("app=shop").value(),
                        "web to shop")};
  const Explanation answer = asked(policy, "web.scope", "172.17.0.2", bridged());
  EXPECT_FALSE(answer.passes()) << "a second container has the address too";
  EXPECT_EQ(answer.to, "172.17.0.2, which is side (app=side)");
  ASSERT_EQ(answer.others.size(), 1U);
  EXPECT_THAT(answer.others[0].ends, ElementsAre("172.17.0.2, which is shop (app=shop)"));
  EXPECT_EQ(answer.others[0].decision.verdict, Verdict::allow);
}

TEST(ExplainWorld, AnAddressOfThisHostMayBeAWorkloads) {
  World world = bridged();
  for (const char* to : {"10.0.0.7", "127.0.0.1"}) {
    const Explanation answer = asked({}, "web.scope", to, world);
    EXPECT_FALSE(answer.passes());
    EXPECT_THAT(answer.notes, ElementsAre(fmt::format(
                                  "{} is taken for a process without labels; for a workload in "
                                  "this host's network, use its name: --to NAME, or --from NAME",
                                  to)));
  }
  EXPECT_THAT(asked({}, "web.scope", "@host", world).notes, IsEmpty()) << "that is unlabeled";
  EXPECT_THAT(asked({}, "web.scope", "192.0.2.1", world).notes, IsEmpty());
  world.residents[0].networks = {1};
  EXPECT_THAT(asked({}, "web.scope", "10.0.0.7", world).notes, Not(Contains(HasSubstr("NAME"))));
}

TEST(ExplainWorld, AnAddressIsThatOfOneNetwork) {
  World world = bridged();
  world.residents[2].networks = {0, 1};  // it was started in another one
  const auto parts = parse_ends("172.17.0.2", {}, world).value();
  ASSERT_EQ(parts.size(), 2U);
  for (const ExplainEnd& part : parts) {
    EXPECT_EQ(part.end.network, 1U);
  }
}

TEST(ExplainWorld, OfManyWorkloadsAtAnAddressTheRestIsCounted) {
  World world = bridged();
  for (std::size_t i = 0; i < kMostParts + 8; ++i) {
    world.residents.push_back({.name = fmt::format("pod-{}", i),
                               .labels = world.residents[1].labels,
                               .number = 100 + i,
                               .networks = {1}});
  }
  EXPECT_EQ(parse_ends("172.17.0.2", {}, world).value().size(), kMostParts);
  EXPECT_THAT(asked({}, "web.scope", "172.17.0.2", world).notes,
              ElementsAre("only 256 of 266 parts of 172.17.0.2 were checked"));
}

TEST(ExplainWorld, APeersLabelsAreNotKnownHere) {
  Policy policy;
  policy.rules = {allow(Selector::parse("app=web").value(), kWorld, "out")};
  const Explanation answer = asked(policy, "web.scope", "10.0.0.9", bridged());
  EXPECT_FALSE(answer.is_known);
  EXPECT_FALSE(answer.passes());
  EXPECT_EQ(answer.to, "10.0.0.9 (in [host] peers)");
  EXPECT_EQ(answer.reason,
            "10.0.0.9 is in [host] peers: the labels of a workload there are not known here; ask "
            "for --to app=...");
  EXPECT_THAT(answer.render(), HasSubstr("tcp/80: not known\n"));
  ASSERT_EQ(answer.others.size(), 1U);
  EXPECT_THAT(answer.others[0].ends, ElementsAre("10.0.0.9, without labels (@world)"));
  EXPECT_EQ(answer.others[0].decision.verdict, Verdict::allow);
  EXPECT_THAT(asked(policy, "10.0.0.9", "@host", bridged()).reason, HasSubstr("--from app=..."));
  EXPECT_TRUE(asked(policy, "web.scope", "10.0.1.9", bridged()).passes()) << "no peer";
}

TEST(ExplainWorld, LabelsOfNobodyHereMayBeOfAnotherHost) {
  Policy policy;
  const Selector far = Selector::parse("app=far").value();
  policy.rules = {allow(kHost, far, "host")};
  const Explanation answer = asked(policy, "@host", "app=far", bridged());
  EXPECT_FALSE(answer.passes());
  EXPECT_EQ(answer.to, "app=far on another host");
  ASSERT_EQ(answer.others.size(), 1U);
  EXPECT_THAT(answer.others[0].ends, ElementsAre("@host -> app=far"));
  World alone = bridged();
  alone.peers.clear();
  EXPECT_TRUE(asked(policy, "@host", "app=far", alone).passes());
  const Explanation labeled = asked(policy, "app=side", "app=far", bridged());
  EXPECT_THAT(labeled.others, IsEmpty()) << "labels are the same everywhere";
  EXPECT_EQ(labeled.to, "app=far");
}

TEST(ExplainWorld, LabelsOfTheHostNeedNotBeWritten) {
  World world = bridged();
  EXPECT_TRUE(world.residents[0].labels.set_of_host("zone", "eu"));
  for (const char* from : {"app=web", "app=web,zone=eu"}) {
    const Explanation answer = asked({}, from, "web.scope", world);
    EXPECT_TRUE(answer.passes()) << from;
    EXPECT_EQ(answer.decision.reason, Reason::baseline) << from;
  }
  EXPECT_FALSE(asked({}, "app=web,zone=us", "web.scope", world).passes());
}

TEST(ExplainWorld, ANetworkMayContainThisHost) {
  Policy policy;
  policy.networks = {network("corp", {"10.0.0.0/8"})};
  policy.rules = {allow(Selector::parse("app=web").value(), kWorld, "out")};
  const Explanation answer = asked(policy, "web.scope", "@corp", bridged());
  EXPECT_FALSE(answer.passes());
  EXPECT_EQ(answer.to, "10.0.0.7 (@host, @corp)");
  ASSERT_EQ(answer.others.size(), 1U);
  EXPECT_THAT(answer.others[0].ends, ElementsAre("10.0.0.0 (@world, @corp)"));
  EXPECT_TRUE(asked(policy, "app=web", "@corp", World()).passes()) << "no address is known";
}

TEST(ExplainWorld, WhatIsLeftAloneIsAProcessWithoutLabels) {
  Policy policy;
  policy.rules = {allow(kWorld, Selector::parse("app=web").value(), "world")};
  const Explanation answer = asked(policy, "alone", "web.scope", bridged());
  EXPECT_TRUE(answer.passes());
  EXPECT_EQ(answer.from, "alone (@world)");
  EXPECT_THAT(answer.notes,
              ElementsAre("alone is not enforced, so no policy applies to it: left alone"));
}

TEST(ExplainWorld, TheTomlToPasteForEgress) {
  Policy policy;
  policy.networks = {network("corp", {"192.0.2.0/24"}), network("dns", {"192.0.2.53/32"})};
  EXPECT_THAT(asked(policy, "web.scope", "192.0.2.53", bridged()).toml,
              "[[allow]]\nname = \"app=web to @dns\"\nfrom = \"app=web\"\nto = \"@dns\"\n"
              "ports = [\"tcp/80\"]\n")
      << "the narrowest network that is there";
  EXPECT_THAT(asked(policy, "web.scope", "2001:db8::1", bridged()).toml,
              testing::StartsWith("[[network]]\nname = \"2001-db8--1\"\n"
                                  "cidrs = [\"2001:db8::1\"]\n"));
  EXPECT_THAT(asked(policy, "web.scope", "@world", bridged()).toml, HasSubstr("to = \"@world\"\n"));
  EXPECT_EQ(asked(policy, "web.scope", "shop", bridged()).toml, "") << "between workloads";
  EXPECT_EQ(asked(policy, "@world", "web.scope", bridged()).toml, "") << "ingress";
  World seen = bridged();
  seen.seen_names = {{"deb.example.org", Address::parse("198.51.100.1").value()}};
  const Explanation named = asked(policy, "web.scope", "deb.example.org", seen);
  EXPECT_THAT(named.toml, testing::StartsWith("[[network]]\nname = \"deb.example.org\"\n"
                                              "names = [\"deb.example.org\"]\n"));
  EXPECT_THAT(named.notes, ElementsAre(HasSubstr("no [[network]] lists the name")));
  policy.rules = {rule(Rule::Action::deny, 0, "never")};
  EXPECT_EQ(asked(policy, "web.scope", "192.0.2.1", bridged()).toml, "") << "a rule denies it";
}

}  // namespace
}  // namespace trireme::policy
