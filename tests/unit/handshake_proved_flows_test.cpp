// SPDX-License-Identifier: Apache-2.0
// Proved connections that conntrack has forgotten: their table, and how the engine decides on their
// segments.
#include "trireme/handshake/proved_flows.hpp"

#include <algorithm>

#include "handshake_support.hpp"

namespace trireme::handshake {
namespace {

using namespace std::chrono_literals;

ProvedFlow flow(std::uint16_t port, policy::Number local = 20, Role role = Role::client) {
  return {{address("10.0.0.1"), address("10.0.0.2"), port, 80, 0, role}, local, 30};
}

TEST(ProvedFlows, KnowsWhatWasEnteredUntilItIsRemoved) {
  ProvedFlows flows(8, 7);
  flows.enter(flow(1), 5ms);
  flows.enter(flow(2, 21), 6ms);
  EXPECT_EQ(flows.find(flow(1).key), flow(1));
  EXPECT_EQ(flows.find(flow(2).key), flow(2, 21));
  EXPECT_EQ(flows.find(flow(1, 20, Role::server).key), std::nullopt) << "the other role";
  EXPECT_EQ(flows.find(flow(3).key), std::nullopt);
  flows.enter(flow(1, 22), 9ms);
  EXPECT_EQ(flows.find(flow(1).key), flow(1, 22)) << "the later one";
  EXPECT_EQ(flows.size(), 2U);
  EXPECT_EQ(flows.entered_before(9ms), std::vector{flow(2, 21)});
  flows.remove(flow(1).key, 9ms);
  EXPECT_EQ(flows.size(), 2U) << "another connection uses its addresses and ports since";
  flows.remove(flow(1).key);
  EXPECT_EQ(flows.find(flow(1).key), std::nullopt);
  ProvedFlow elsewhere = flow(4);
  elsewhere.key.point = 3;
  flows.enter(elsewhere, 10ms);
  flows.forget_point(3);
  EXPECT_EQ(flows.find(elsewhere.key), std::nullopt);
  EXPECT_EQ(flows.entered_before(Milliseconds::max()), std::vector{flow(2, 21)});
}

TEST(ProvedFlows, WhatIsStillInUseIsTheYoungest) {
  ProvedFlows flows(2, 7);
  flows.enter(flow(1), 1ms);
  flows.enter(flow(2), 2ms);
  flows.touch(flow(1).key, 5, 3ms);
  flows.touch(flow(9).key, 5, 3ms);
  EXPECT_EQ(flows.entered_before(3ms), std::vector{flow(2)});
  flows.enter(flow(3), 4ms);
  EXPECT_EQ(flows.find(flow(2).key), std::nullopt);
  EXPECT_EQ(flows.find(flow(1).key)->socket, 5U);
  EXPECT_EQ(flows.of_point(0), (std::vector{flow(1).key, flow(3).key}));
  EXPECT_TRUE(flows.of_point(1).empty());
}

TEST(ProvedFlows, AServersAreItsClientsHosts) {
  ProvedFlows flows(4, 7);
  for (std::uint16_t port = 1; port < 4; port++) {
    flows.enter(flow(port, 20, Role::server), std::chrono::milliseconds(port));
  }
  flows.enter(flow(9), 9ms);
  flows.enter(flow(10), 10ms);
  EXPECT_EQ(flows.find(flow(9).key), flow(9)) << "its own workload's";
  EXPECT_EQ(flows.crowding().holder.owner, Owner::address(address("10.0.0.2")));
}

TEST(ProvedFlows, WhoeverHasMostLosesItsOldest) {
  ProvedFlows flows(4, 7);
  flows.enter(flow(1, 20), 1ms);
  for (std::uint16_t port = 2; port < 9; port++) {
    flows.enter(flow(port, 21), std::chrono::milliseconds(port));
  }
  EXPECT_EQ(flows.size(), 4U);
  EXPECT_EQ(flows.find(flow(1).key), flow(1, 20)) << "another workload's share is its own";
  EXPECT_EQ(flows.find(flow(5).key), std::nullopt);
  EXPECT_NE(flows.find(flow(6).key), std::nullopt);
  EXPECT_EQ(flows.crowding().given_up, 4U);
  EXPECT_EQ(flows.crowding().holder.owner, Owner::workload(21));
}

/// A proved connection of A and B whose handshake is no longer remembered.
struct Forgotten : testing::Test {
  static constexpr std::uint32_t kStray = End::kNumber | abi::kStray;

  End client{psk_trust("client", kSecret), "app=web"};
  End server{psk_trust("server", kSecret), "app=web"};
  Connection connection;

  void SetUp() override {
    ASSERT_TRUE(connects(client, server, connection));
    pass_an_hour();
  }
  void pass_an_hour() {
    for (End* end : {&client, &server}) {
      end->pass_time(1h);
      end->events.clear();
    }
  }
};

TEST_F(Forgotten, GoesOnFromEitherEndWhoeverSpeaksFirst) {
  for (const std::uint32_t priority : {kStray, std::uint32_t{0}}) {
    EXPECT_TRUE(client.out(connection.data(), priority).authorizes()) << text(client.last());
    EXPECT_TRUE(server.in(connection.data(), priority).authorizes()) << text(server.last());
    EXPECT_TRUE(server.out(connection.answer(), priority).authorizes());
    EXPECT_TRUE(client.in(connection.answer(), priority).authorizes());
    pass_an_hour();
  }
  EXPECT_EQ(server.in(connection.data(), kStray).number, 1000U) << "the number of its identity";
}

TEST_F(Forgotten, EndsWithItsSocket) {
  server.connected = false;
  EXPECT_EQ(server.in(connection.data(), kStray).ruling, abi::Ruling::pass) << "TCP answers";
  server.connected = true;
  EXPECT_FALSE(server.in(connection.data(), kStray).passes()) << "and is forgotten";
  EXPECT_EQ(server.last(), Reason::policy) << "a stranger's, by its addresses";
  EXPECT_EQ(server.proved->connections.size(), 0U);
  EXPECT_FALSE(server.in(connection.data(), 0).passes());
  EXPECT_EQ(server.last(), Reason::unknown_handshake);
}

TEST_F(Forgotten, IsNoOtherWorkloads) {
  client.engine->add_local(std::make_shared<const LocalIdentity>(78, label_set("app=web")));
  EXPECT_FALSE(client.out(connection.data(), 78 | abi::kStray).passes());
  EXPECT_EQ(client.last(), Reason::policy);
  server.engine->add_local(std::make_shared<const LocalIdentity>(78, label_set("app=web")));
  EXPECT_FALSE(server.in(connection.data(), 78 | abi::kStray).passes());
  EXPECT_TRUE(server.in(connection.data(), kStray).authorizes()) << "its own connection continues";
}

TEST_F(Forgotten, IsNoOtherWorkloadsWhileItsHandshakeIsRemembered) {
  Connection second = Connection::number(7);
  ASSERT_TRUE(connects(client, server, second));
  server.engine->add_local(std::make_shared<const LocalIdentity>(78, label_set("app=web")));
  EXPECT_FALSE(server.in(second.data(), 78 | abi::kStray).passes());
  EXPECT_TRUE(server.in(second.data(), kStray).authorizes());
}

TEST_F(Forgotten, IsNoOtherSockets) {
  const FlowKey key{connection.ends.destination,
                    connection.ends.source,
                    80,
                    connection.ends.source_port,
                    0,
                    Role::server};
  server.proved->connections.touch(key, server.cookie, server.now.monotonic);
  EXPECT_TRUE(server.in(connection.data(), kStray).authorizes());
  server.cookie = 2;
  EXPECT_FALSE(server.in(connection.data(), kStray).passes())
      << "another connection with the same endpoints, which policy allowed by its address";
}

TEST_F(Forgotten, EndsWithItsWorkload) {
  client.engine->remove_local(End::kNumber);
  EXPECT_FALSE(client.out(connection.data(), kStray).passes());
  EXPECT_EQ(client.last(), Reason::unknown_workload);
}

TEST_F(Forgotten, EndsWithTheTrustInItsPeer) {
  server.book.forget();
  EXPECT_FALSE(server.in(connection.data(), kStray).passes());
  EXPECT_EQ(server.last(), Reason::untrusted);
}

TEST_F(Forgotten, IsJudgedByThePolicyInForce) {
  policy::Policy nothing;
  nothing.baseline = policy::Baseline::none;
  server.set_policy(nothing);
  EXPECT_FALSE(server.in(connection.data(), kStray).passes());
  ASSERT_EQ(server.last(), Reason::policy);
  EXPECT_NE(server.events.back().remote, nullptr) << "the refusal names the peer's labels";
}

TEST_F(Forgotten, ItsPortsBeginAnotherConnection) {
  // On the client's side, its own TCP has closed the former connection.
  const Packet hello = client.out(connection.syn(9000)).packet;
  EXPECT_EQ(client.proved->connections.size(), 0U);
  EXPECT_FALSE(client.out(connection.data(), kStray).passes()) << "not proved yet";
  // On the server's side it may still exist. No SYN ends it, and TCP answers.
  EXPECT_TRUE(server.in(hello).passes());
  EXPECT_TRUE(server.in(connection.data(), kStray).authorizes());
  server.connected = false;
  server.unconnected = TcpState::half_open;
  EXPECT_TRUE(server.in(hello).passes());
  EXPECT_FALSE(server.in(connection.data(), kStray).passes()) << "not proved yet";
}

TEST_F(Forgotten, AStrangersSegmentIsJudgedByItsAddresses) {
  const Connection other = Connection::number(9);
  EXPECT_FALSE(server.in(other.data(), kStray).passes());
  EXPECT_EQ(server.last(), Reason::policy);
  EXPECT_FALSE(server.events.back().local_is_client);
  EXPECT_FALSE(client.out(connection.number(10).data(), kStray).passes());
  EXPECT_EQ(client.events.back().local, End::kNumber);
}

TEST_F(Forgotten, NothingCompletesAHalfOpenRequestButTheFlowOfItsSyn) {
  policy::Policy policy;  // the stranger's port is one that the workload may connect to
  policy::Rule rule;
  rule.from.emplace_back(policy::Selector::parse("app=web").value());
  rule.to.emplace_back(policy::Entity{.kind = policy::Entity::Kind::world});
  policy.rules.push_back(rule);
  server.set_policy(policy);
  const Connection other = Connection::number(9);
  EXPECT_TRUE(server.in(other.data(), kStray).authorizes()) << "a connection that exists";
  server.connected = false;
  // The ruleset sees no cgroup of a request socket.
  for (const std::uint32_t priority : {kStray, abi::kHost | abi::kStray}) {
    for (const TcpState state : {TcpState::half_open, TcpState::unknown}) {
      server.unconnected = state;
      EXPECT_FALSE(server.in(other.data(), priority).passes());
    }
    server.unconnected = TcpState::none;
    EXPECT_EQ(server.in(other.data(), priority).ruling, abi::Ruling::pass) << "TIME_WAIT";
  }
}

TEST_F(Forgotten, IsKeptWhereTheKernelDoesNotAnswerOrAllIsAudited) {
  server.connected = false;
  server.unconnected = TcpState::unknown;
  EXPECT_TRUE(server.in(connection.data(), kStray).drop) << "TCP repeats it";
  server.connected = true;
  policy::Policy audited;
  audited.baseline = policy::Baseline::none;
  audited.mode = policy::Mode::audit;
  server.set_policy(audited);
  for (int i = 0; i < 2; i++) {
    EXPECT_EQ(server.in(connection.data(), kStray).ruling, abi::Ruling::audit);
  }
  server.set_policy({});
  EXPECT_TRUE(server.in(connection.data(), kStray).authorizes());
}

TEST_F(Forgotten, IsNotRememberedWhereNatGivesItsSocketOtherEnds) {
  const Connection turned = Connection::number(11);
  const Packet hello = client.out(turned.syn(), End::kNumber | abi::kDestinationNat).packet;
  ASSERT_TRUE(server.in(hello).passes());
  ASSERT_TRUE(client.in(server.out(turned.syn_ack()).packet).authorizes());
  EXPECT_EQ(client.proved->connections.find({turned.ends.source, turned.ends.destination,
                                             turned.ends.source_port, turned.ends.destination_port,
                                             0, Role::client}),
            std::nullopt);
}

TEST(Policies, ThatDifferAreReportedOnceInAWhile) {
  End client(psk_trust("client", kSecret), "app=web");
  End server(psk_trust("server", kSecret), "app=web");
  const auto with_digest = [](std::uint8_t first) {
    policy::Policy policy;
    policy.digest = {first, 2, 3, 4, 5, 6, 7, 8, 9};
    return policy;
  };
  const auto reports = [](End& end) {
    const auto count =
        std::ranges::count_if(end.events, [](const Event& event) { return event.is_other_policy; });
    end.events.clear();
    return count;
  };
  ASSERT_TRUE(connects(client, server, Connection::number(1)));
  EXPECT_EQ(reports(client) + reports(server), 0) << "neither states its policy";
  client.set_policy(with_digest(1));
  server.set_policy(with_digest(1));
  ASSERT_TRUE(connects(client, server, Connection::number(2)));
  EXPECT_EQ(reports(client) + reports(server), 0);
  server.set_policy(with_digest(10));
  ASSERT_TRUE(connects(client, server, Connection::number(3)));
  ASSERT_EQ(client.events.size(), 1U);
  EXPECT_EQ(client.events.front().detail,
            "peer server (10.0.0.2) has a different policy than this host: digest "
            "0a02030405060708, here 0102030405060708");
  EXPECT_EQ(reports(client), 1);
  EXPECT_EQ(reports(server), 1);
  ASSERT_TRUE(connects(client, server, Connection::number(4)));
  EXPECT_EQ(reports(client) + reports(server), 0) << "reported less than a minute ago";
  for (End* end : {&client, &server}) {
    end->pass_time(61s);
  }
  ASSERT_TRUE(connects(client, server, Connection::number(5)));
  EXPECT_EQ(reports(client) + reports(server), 2);
}

}  // namespace
}  // namespace trireme::handshake
