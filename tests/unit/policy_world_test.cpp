// SPDX-License-Identifier: Apache-2.0
// What each enforcement point takes an endpoint for: one row for each rule of the model. The test
// named in a row tries the same with packets.
#include "trireme/policy/world.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace trireme::policy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Where = WorldEnd::Where;
using Kind = Endpoint::Kind;

Address at(const char* text) {
  return Address::parse(text).value();
}

LabelSet labels(const char* app) {
  LabelSet set;
  EXPECT_TRUE(set.set("app", app));
  return set;
}

Policy policy_of(std::vector<std::pair<const char*, const char*>> networks) {
  Policy policy;
  for (const auto& [name, cidr] : networks) {
    policy.networks.push_back(
        {.name = name, .cidrs = {Prefix::parse(cidr).value()}, .names = {}, .where = {}});
  }
  return policy;
}

Rule allow(Peer from, Peer to) {
  Rule rule;
  rule.from = {std::move(from)};
  rule.to = {std::move(to)};
  return rule;
}

Selector selector(const char* text) {
  return Selector::parse(text).value();
}

const Entity kHost{.kind = Entity::Kind::host};
const Entity kWorld{.kind = Entity::Kind::world};

enum ResidentIndex : std::size_t { kWeb, kBridge, kJoined, kShut, kLeft, kBig };

/// This host, with a bridge to which a container is attached whose network another one has joined.
World example() {
  World world;
  world.networks = {{.name = "this host",
                     .addresses = {{at("127.0.0.1"), 8},
                                   {at("::1"), 128},
                                   {at("10.0.0.7"), 24},
                                   {at("172.17.0.1"), 16},
                                   {at("fe80::1"), 64}}},
                    {.name = "bridge", .addresses = {{at("172.17.0.2"), 32}}}};
  world.residents = {
      {.name = "web", .labels = labels("web"), .number = 16},
      {.name = "bridge", .labels = labels("db"), .number = 17, .networks = {1}},
      {.name = "joined", .labels = labels("side"), .number = 18, .networks = {1}},
      {.name = "shut", .labels = {}, .state = World::State::quarantined, .reason = "no labels yet"},
      {.name = "left",
       .labels = labels("left"),
       .state = World::State::unenforced,
       .reason = "left alone",
       .networks = {}},
      {.name = "big", .labels = labels("big"), .number = 19, .unprovable = "labels too large"}};
  world.peers = {Prefix::parse("10.0.0.0/24").value()};
  return world;
}

WorldEnd of(ResidentIndex resident, std::size_t network = 0) {
  WorldEnd end;
  end.where = Where::network;
  end.network = network;
  end.resident = resident;
  return end;
}

WorldEnd process(Where where, const char* address = nullptr, std::size_t network = 0) {
  WorldEnd end;
  end.where = where;
  end.network = network;
  if (address != nullptr) {
    end.address = at(address);
  }
  return end;
}

WorldEnd labeled(Where where, const char* app, std::size_t network = 0) {
  WorldEnd end = process(where, nullptr, network);
  end.labels = labels(app);
  return end;
}

std::string text(const View& view) {
  switch (view.kind) {
    case Kind::workload:
      return view.labels.text();
    case Kind::host:
      return view.address ? "@host " + view.address->text() : "@host";
    case Kind::world:
      return view.address ? "@world " + view.address->text() : "@world";
  }
  return "";
}

struct Row {
  const char* rule;
  WorldEnd end;
  WorldEnd viewer;
  bool is_source;
  std::vector<std::string> seen;
};

TEST(World, WhatEachEnforcementPointSees) {
  const World world = example();
  // @near contains the bridge's own address, @other another address of the host.
  const Policy policy = policy_of({{"near", "172.17.0.1/32"}, {"other", "10.0.0.7/32"}});
  const WorldJudge judge(policy, world);
  const WorldEnd web = of(kWeb);
  const WorldEnd bridge = of(kBridge, 1);
  const WorldEnd host = process(Where::network);
  const std::vector<Row> rows = {
      {"same network, no workload: @host (test_networks)",
       host,
       web,
       true,
       {"@host", "@host 10.0.0.7", "@host 172.17.0.1"}},
      {"the same, at the address asked for",
       process(Where::network, "10.0.0.7"),
       web,
       true,
       {"@host 10.0.0.7"}},
      {"a client of the host reaches a bridge by the bridge's address (test_docker)",
       host,
       bridge,
       true,
       {"@world 172.17.0.1"}},
      {"a server of the host can have any of its addresses (test_rendezvous)",
       host,
       bridge,
       false,
       {"@world 172.17.0.1", "@world 10.0.0.7"}},
      {"the same, at the address asked for",
       process(Where::network, "10.0.0.7"),
       bridge,
       false,
       {"@world 10.0.0.7"}},
      {"a process beside a bridge container",
       process(Where::network, "127.0.0.1", 1),
       bridge,
       true,
       {"@host 127.0.0.1"}},
      {"the same for the host",
       process(Where::network, nullptr, 1),
       web,
       true,
       {"@world 172.17.0.2"}},
      {"elsewhere", process(Where::elsewhere), web, true, {"@world"}},
      {"elsewhere, at an address",
       process(Where::elsewhere, "192.0.2.1"),
       bridge,
       true,
       {"@world 192.0.2.1"}},
      {"no workload of a peer", process(Where::peer, "10.0.0.9"), web, true, {"@world 10.0.0.9"}},
      {"a workload in the same network", of(kJoined, 1), bridge, true, {"app=side"}},
      {"a workload in another network: by rendezvous (test_rendezvous)",
       bridge,
       web,
       true,
       {"app=db"}},
      {"a workload of a peer: by proof (test_hosts)",
       labeled(Where::peer, "far"),
       web,
       true,
       {"app=far"}},
      {"a workload of this host, to a peer", bridge, labeled(Where::peer, "far"), true, {"app=db"}},
      {"a process of this host, to a peer",
       host,
       labeled(Where::peer, "far"),
       true,
       {"@world 10.0.0.7", "@world 172.17.0.1"}},
      {"what is unenforced has no labels, and no known place",
       process(Where::elsewhere),
       web,
       true,
       {"@world"}},
  };
  for (const Row& row : rows) {
    std::vector<std::string> seen;
    for (const View& view : judge.views(row.end, row.viewer, row.is_source)) {
      seen.push_back(text(view));
    }
    EXPECT_EQ(seen, row.seen) << row.rule;
  }
  WorldEnd left = of(kLeft);
  left.where = Where::elsewhere;
  EXPECT_FALSE(judge.is_workload(left));
  EXPECT_TRUE(judge.is_workload(of(kShut)));
}

TEST(World, PartsThatNoNetworkTellsApartAreOne) {
  const World world = example();
  const Policy policy = policy_of({{"corp", "192.0.2.0/24"}});
  const WorldJudge judge(policy, world);
  const WorldEnd host = process(Where::network);
  EXPECT_THAT(judge.views(host, of(kWeb), true), testing::SizeIs(1));
  EXPECT_THAT(judge.views(host, of(kBridge, 1), false), testing::SizeIs(1));
}

TEST(World, WithoutHandshakesLabelsStayInTheirNetwork) {
  World world = example();
  world.has_handshakes = false;
  Policy policy;
  policy.rules = {allow(selector("app=web"), selector("app=db")),
                  allow(kWorld, selector("app=db"))};
  const WorldJudge judge(policy, world);
  EXPECT_EQ(text(judge.views(of(kBridge, 1), of(kWeb), false).front()), "@world 172.17.0.2");
  const Ruling ruling = judge.decide(of(kWeb), of(kBridge, 1), 6, 80).front();
  EXPECT_EQ(ruling.destination->verdict, Verdict::allow) << "it takes the client for @world";
  EXPECT_EQ(ruling.source->verdict, Verdict::deny);
  EXPECT_EQ(ruling.decision.verdict, Verdict::deny);
  EXPECT_EQ(ruling.by, Ruling::End::source);
  EXPECT_EQ(text(ruling.to), "@world 172.17.0.2");
}

TEST(World, BesideIsTheNetworkOfTheOtherEnd) {
  const WorldEnd loopback = process(Where::beside, "127.0.0.1");
  EXPECT_EQ(WorldJudge::placed(loopback, of(kBridge, 1)).network, 1U);
  EXPECT_EQ(WorldJudge::placed(loopback, process(Where::elsewhere)).network, 0U);
  EXPECT_EQ(WorldJudge::placed(loopback, process(Where::elsewhere)).where, Where::network);
  EXPECT_EQ(WorldJudge::placed(of(kBridge, 1), loopback).network, 1U);
}

TEST(World, DnsNamesCountWhereTheyWereLearned) {
  World world = example();
  world.networks[1].named[at("192.0.2.1")] = {"deb.example.org"};
  Policy policy;
  policy.networks = {{.name = "mirror", .cidrs = {}, .names = {"deb.example.org"}, .where = {}}};
  const WorldJudge judge(policy, world);
  const WorldEnd mirror = process(Where::elsewhere, "192.0.2.1");
  EXPECT_THAT(judge.views(mirror, of(kBridge, 1), false).front().named, ElementsAre(0));
  EXPECT_THAT(judge.views(mirror, of(kWeb), false).front().named, IsEmpty());
  WorldEnd asked = mirror;
  asked.names = {"deb.example.org"};
  EXPECT_THAT(judge.views(asked, of(kWeb), false).front().networks(policy), ElementsAre(0));
}

class WorldDecision : public testing::Test {
 protected:
  Ruling decide(const WorldEnd& from, const WorldEnd& to) {
    const WorldJudge judge(policy_, world_);
    return judge.decide(from, to, 6, 80).front();
  }
  [[nodiscard]] bool passes(const WorldEnd& from, const WorldEnd& to) {
    return decide(from, to).decision.verdict != Verdict::deny;
  }

  Policy policy_;
  World world_ = example();
};

TEST_F(WorldDecision, TheHostIsTheWorldToABridgeContainer) {
  const WorldEnd host = process(Where::network);
  policy_.rules = {allow(kHost, selector("app=db")), allow(selector("app=db"), kHost)};
  EXPECT_FALSE(passes(host, of(kBridge, 1)));
  EXPECT_FALSE(passes(of(kBridge, 1), host));
  EXPECT_TRUE(passes(process(Where::beside, "127.0.0.1"), of(kBridge, 1)));
  policy_.rules = {allow(kWorld, selector("app=db")), allow(selector("app=db"), kWorld)};
  EXPECT_TRUE(passes(host, of(kBridge, 1)));
  EXPECT_TRUE(passes(of(kBridge, 1), host));
  EXPECT_FALSE(passes(process(Where::beside, "127.0.0.1"), of(kBridge, 1)));
}

TEST_F(WorldDecision, OnlyWorkloadsJudge) {
  policy_.rules = {allow(selector("app=web"), kHost)};
  const Ruling egress = decide(of(kWeb), process(Where::network));
  EXPECT_TRUE(egress.source.has_value());
  EXPECT_FALSE(egress.destination.has_value());
  const Ruling both = decide(of(kWeb), of(kBridge, 1));
  EXPECT_TRUE(both.source && both.destination);
  const Ruling none = decide(process(Where::network), process(Where::elsewhere));
  EXPECT_EQ(none.by, Ruling::End::none);
  EXPECT_EQ(none.decision.reason, Reason::unprotected);
  EXPECT_EQ(none.decision.verdict, Verdict::allow);
}

TEST_F(WorldDecision, QuarantineBlocksEverythingInAuditModeToo) {
  policy_.mode = Mode::audit;
  policy_.rules = {allow(selector("*"), selector("*")), allow(kHost, selector("*"))};
  for (const Ruling& ruling : {decide(of(kShut), of(kWeb)), decide(of(kWeb), of(kShut)),
                               decide(process(Where::network), of(kShut))}) {
    EXPECT_EQ(ruling.decision.verdict, Verdict::deny);
    EXPECT_THAT(ruling.aside, HasSubstr("shut is in quarantine: no labels yet"));
  }
}

TEST_F(WorldDecision, WhatIsUnenforcedIsAProcessWithoutLabels) {
  WorldEnd left = of(kLeft);
  left.where = Where::elsewhere;
  policy_.rules = {allow(selector("app=left"), selector("app=web"))};
  EXPECT_FALSE(passes(left, of(kWeb)));
  policy_.rules = {allow(kWorld, selector("app=web"))};
  EXPECT_TRUE(passes(left, of(kWeb)));
}

TEST_F(WorldDecision, AWorkloadReachesItselfWithinANetworkOnly) {
  EXPECT_EQ(decide(of(kBridge, 1), of(kBridge, 1)).decision.reason, Reason::self);
  policy_.baseline = Baseline::none;
  EXPECT_FALSE(passes(of(kBridge, 1), of(kBridge, 0))) << "its labels decide, as for any other";
}

TEST_F(WorldDecision, APeersLabelsAreNotKnownHere) {
  policy_.rules = {allow(selector("*"), selector("*"))};
  WorldEnd peer = process(Where::peer, "10.0.0.9");
  EXPECT_TRUE(decide(of(kWeb), peer).is_known) << "a process without labels";
  peer.may_have_labels = true;
  EXPECT_FALSE(decide(of(kWeb), peer).is_known);
  EXPECT_FALSE(decide(peer, of(kBridge, 1)).is_known);
  EXPECT_FALSE(decide(process(Where::network), peer).is_known)
      << "if it is a workload there, that end decides";
}

TEST_F(WorldDecision, LabelsThatCannotBeProvedAreRefusedByPeers) {
  policy_.rules = {allow(selector("*"), selector("*")), allow(selector("*"), kWorld),
                   allow(kWorld, selector("*"))};
  const WorldEnd unlabeled = process(Where::peer, "10.0.0.9");
  EXPECT_FALSE(passes(of(kBig), labeled(Where::peer, "far")));
  EXPECT_FALSE(passes(labeled(Where::peer, "far"), of(kBig)));
  EXPECT_FALSE(passes(of(kBig), unlabeled)) << "it is asked for a proof, which names the client";
  EXPECT_TRUE(passes(unlabeled, of(kBig))) << "nobody proves anything";
  EXPECT_TRUE(passes(of(kBig), of(kBridge, 1))) << "no token is needed on this host";
  EXPECT_TRUE(passes(of(kBig), process(Where::elsewhere, "192.0.2.1")));
  EXPECT_EQ(decide(of(kBig), unlabeled).aside, "big: labels too large");
  policy_.mode = Mode::audit;
  EXPECT_EQ(decide(of(kBig), unlabeled).decision.verdict, Verdict::audit);
}

TEST_F(WorldDecision, DockersResolverIsPartOfTheContainer) {
  EXPECT_TRUE(passes(of(kBridge, 1), process(Where::beside, "127.0.0.11")));
  EXPECT_FALSE(passes(of(kBridge, 1), process(Where::beside, "127.0.0.53")));
  EXPECT_FALSE(passes(of(kWeb), process(Where::beside, "127.0.0.11"))) << "not on the host";
}

}  // namespace
}  // namespace trireme::policy
