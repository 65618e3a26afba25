// SPDX-License-Identifier: Apache-2.0
// Flows between two workloads of one daemon in different network namespaces: MEET contains no
// information, and a neighbor gains nothing by relaying it.
#include "trireme/handshake/rendezvous.hpp"

#include <algorithm>

#include "handshake_datagram_support.hpp"

namespace trireme::handshake {
namespace {

using namespace std::chrono_literals;

constexpr policy::Number kClient = 77;
constexpr policy::Number kServer = 78;
constexpr PointId kThere = 1;
constexpr PointId kHere = 2;

/// One daemon with a client in one network namespace and a server in another.
struct Meets : testing::Test {
  Meets() {
    engine->set_policy(std::make_shared<const policy::Policy>());
    engine->set_trust(credentials::Trust::local().value());
    engine->set_near({policy::Prefix::parse("10.0.0.0/8").value()});
    set_labels("app=web", "app=web");
    engine->on_event = [this](Event&& event) { events.push_back(std::move(event)); };
  }
  void set_labels(const std::string& client, const std::string& server) {
    engine->add_local(std::make_shared<const LocalIdentity>(kClient, label_set(client)), kThere);
    engine->add_local(std::make_shared<const LocalIdentity>(kServer, label_set(server)), kHere);
  }
  void set_policy(policy::Policy policy) {
    engine->set_policy(std::make_shared<const policy::Policy>(std::move(policy)));
  }
  /// A policy that allows the client to reach peers without labels, anywhere.
  void allow_world() {
    policy::Policy policy;
    policy::Rule rule;
    rule.from.emplace_back(policy::Selector::parse("app=web").value());
    rule.to.emplace_back(policy::Entity{.kind = policy::Entity::Kind::world});
    policy.rules.push_back(rule);
    set_policy(policy);
  }
  Answer give(PointId point, const Packet& packet, bool outgoing, std::uint32_t priority) {
    const PacketFacts facts{.point = point,
                            .outgoing = outgoing,
                            .priority = priority,
                            .out_device = 3,
                            .in_device = 4,
                            .id = ++last_id};
    return port.perform(handled(*engine, facts, packet, packet.size(), now, port), last_id);
  }
  Outcome handle(PointId point, const Packet& packet, bool outgoing, std::uint32_t priority) {
    const Answer answer = give(point, packet, outgoing, priority);
    Outcome outcome;
    outcome.drop = answer.drop;
    outcome.ruling = static_cast<abi::Ruling>(answer.priority & abi::kCodeMask);
    outcome.number = answer.priority & abi::kNumberMask;
    outcome.packet = answer.changed.value_or(packet);
    EXPECT_EQ(port.segments, 0U) << "no other message is sent";
    return outcome;
  }
  Outcome leave(const Packet& packet) { return handle(kThere, packet, true, kClient); }
  Outcome arrive(const Packet& packet) { return handle(kHere, packet, false, kServer); }
  Outcome answered(const Packet& packet) { return handle(kThere, packet, false, 0); }
  [[nodiscard]] Reason last() const { return events.empty() ? Reason::none : events.back().reason; }

  Proved proved{1, 64};
  Book book{1000};
  std::unique_ptr<Engine> engine = Engine::create(64, book, proved).value();
  Record port;
  std::uint32_t last_id = 0;
  std::vector<Event> events;
  Now now{std::chrono::milliseconds(1'000'000), std::chrono::system_clock::now()};
  Connection connection;
};

/// The same packet with other addresses and ports.
Packet between(const Packet& packet, const wire::Ends& ends) {
  const auto segment = wire::Segment::parse(packet, packet.size()).value();
  Draft draft;
  draft.ends = ends;
  draft.flags = segment.flags();
  draft.sequence = segment.sequence();
  draft.data.assign(segment.payload().begin(), segment.payload().end());
  return draft.bytes();
}

TEST_F(Meets, BothEndsAreAuthorizedWithTheRequest) {
  const Outcome left = leave(connection.syn());
  EXPECT_EQ(left.ruling, abi::Ruling::pass);
  EXPECT_EQ(segment(left.packet).payload_size(), wire::kTagDatagram);
  const Outcome met = arrive(left.packet);
  EXPECT_EQ(met.ruling, abi::Ruling::meet) << text(last());
  EXPECT_EQ(met.number, 1000U);
  EXPECT_EQ(segment(met.packet).payload_size(), 0U) << "no token reaches an application";
  EXPECT_EQ(proved.requests.size(), 1U);
  EXPECT_EQ(answered(connection.syn_ack()).ruling, abi::Ruling::authorize);
  EXPECT_EQ(engine->statistics().authorized, 2U);
  EXPECT_EQ(engine->statistics().hellos, 0U);
  EXPECT_EQ(engine->statistics().verifications, 0U);
  EXPECT_EQ(proved.connections.size(), 2U) << "both are remembered after conntrack forgets them";
  EXPECT_EQ(proved.requests.size(), 0U) << "and the request is not";
}

TEST_F(Meets, WhatTcpRepeatsPasses) {
  const Outcome left = leave(connection.syn());
  EXPECT_EQ(arrive(left.packet).ruling, abi::Ruling::meet);
  const Outcome again = leave(connection.syn());
  EXPECT_EQ(again.packet, left.packet) << "the same number";
  const Outcome repeated = handle(kHere, again.packet, false, abi::kDecided | kServer);
  EXPECT_EQ(repeated.ruling, abi::Ruling::pass);
  EXPECT_EQ(segment(repeated.packet).payload_size(), 0U);
  EXPECT_EQ(answered(connection.syn_ack()).ruling, abi::Ruling::authorize);
  EXPECT_EQ(answered(connection.syn_ack()).ruling, abi::Ruling::pass);
  EXPECT_EQ(handle(kHere, connection.syn_ack(), true, 0).ruling, abi::Ruling::pass)
      << "in audit mode";
}

TEST_F(Meets, OtherLabelsAreRefusedAtTheServer) {
  set_labels("app=web", "app=db");
  const Outcome met = arrive(leave(connection.syn()).packet);
  EXPECT_EQ(met.ruling, abi::Ruling::refuse);
  EXPECT_EQ(segment(met.packet).payload_size(), 0U);
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].reason, Reason::policy);
  EXPECT_EQ(events[0].remote->labels, label_set("app=web"));
  EXPECT_EQ(events[0].near, kClient) << "the other end is a workload of this host";
  EXPECT_TRUE(proved.peers.recent(now.monotonic).empty()) << "and no remote host";
  EXPECT_FALSE(answered(connection.syn_ack()).authorizes()) << "by any server";
}

TEST_F(Meets, WhatANeighbourPassesOnIsDropped) {
  const Packet left = leave(connection.syn()).packet;
  Connection other = connection;
  other.ends.source = address("10.0.0.9");
  EXPECT_TRUE(arrive(between(left, other.ends)).drop) << "relayed from another address";
  EXPECT_EQ(last(), Reason::other_address);
  other = connection;
  other.ends.destination = address("10.0.0.3");
  EXPECT_TRUE(arrive(between(left, other.ends)).drop)
      << "relayed to another server, with the client's address";
  EXPECT_EQ(last(), Reason::other_address);
  Packet changed = left;
  changed.at(changed.size() - wire::kTagSize) ^= 1U;
  EXPECT_TRUE(arrive(changed).drop) << "another number";
  EXPECT_EQ(engine->statistics().authorized, 0U);
  EXPECT_EQ(arrive(left).ruling, abi::Ruling::meet) << "the client's own request is still accepted";
}

TEST_F(Meets, ARequestGetsOld) {
  const Packet left = leave(connection.syn()).packet;
  now.monotonic += 131s;
  EXPECT_TRUE(arrive(left).drop);
}

TEST_F(Meets, ARequestOfAWorkloadThatHasEndedIsNobodys) {
  const Packet left = leave(connection.syn()).packet;
  engine->remove_local(kClient);
  EXPECT_TRUE(arrive(left).drop);
  EXPECT_EQ(engine->statistics().authorized, 0U);
  engine->add_local(std::make_shared<const LocalIdentity>(kClient, label_set("app=web")), kThere);
  EXPECT_TRUE(arrive(left).drop) << "the next workload with the number has its own requests";
}

TEST_F(Meets, WhatThisHostTranslatesIsTheSame) {
  const Packet left = leave(connection.syn()).packet;
  Connection published = connection;  // NAT has changed both source and destination
  published.ends.source = address("10.0.0.254");
  published.ends.source_port = 50'000;
  published.ends.destination = address("10.1.0.1");
  published.ends.destination_port = 8080;
  port.translate = [&](const wire::Ends& ends) { return Translation{connection.ends, ends}; };
  EXPECT_EQ(arrive(between(left, published.ends)).ruling, abi::Ruling::meet);
  EXPECT_EQ(answered(connection.syn_ack()).ruling, abi::Ruling::authorize);
}

TEST_F(Meets, AClientOnTheHostIsSeenBehindNatOnOutput) {
  Connection turned = connection;  // as its packets leave
  turned.ends.destination = address("10.1.0.1");
  const Packet left = leave(turned.syn()).packet;
  Connection masked = turned;  // as they arrive
  masked.ends.source = address("10.0.0.254");
  port.translate = [&](const wire::Ends& ends) { return Translation{connection.ends, ends}; };
  EXPECT_EQ(arrive(between(left, masked.ends)).ruling, abi::Ruling::meet);
}

TEST_F(Meets, AServerWithoutLabelsIsAsPolicySays) {
  leave(connection.syn());
  const Outcome refused = answered(connection.syn_ack());
  EXPECT_NE(segment(refused.packet).flags() & wire::kRst, 0);
  allow_world();
  const Connection second = Connection::number(2);
  leave(second.syn());
  EXPECT_EQ(answered(second.syn_ack()).ruling, abi::Ruling::authorize);
}

TEST_F(Meets, AuditModeLetsThroughAndReportsBothEnds) {
  set_labels("app=web", "app=db");
  policy::Policy policy;
  policy.mode = policy::Mode::audit;
  set_policy(policy);
  EXPECT_EQ(arrive(leave(connection.syn()).packet).ruling, abi::Ruling::audit);
  EXPECT_EQ(answered(connection.syn_ack()).ruling, abi::Ruling::audit);
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[0].verdict, policy::Verdict::audit);
  EXPECT_EQ(events[1].verdict, policy::Verdict::audit);
  EXPECT_EQ(events[0].near, kClient);
  EXPECT_EQ(events[1].near, kServer);
}

TEST_F(Meets, PeersElsewhereAreAskedForTokens) {
  engine->set_near({policy::Prefix::parse("10.0.0.9/32").value()});
  engine->set_peers({policy::Prefix::parse("10.0.0.2/32").value()});
  EXPECT_EQ(leave(connection.syn()).ruling, abi::Ruling::refuse);
  EXPECT_EQ(last(), Reason::no_credential);
  engine->set_near({policy::Prefix::parse("10.0.0.2/32").value()});
  const Connection second = Connection::number(2);
  EXPECT_EQ(leave(second.syn()).ruling, abi::Ruling::pass)
      << "this host's own address is never a remote host";
}

TEST_F(Meets, OneWorkloadDoesNotTakeAllRoom) {
  constexpr policy::Number kOther = 80;
  engine->add_local(std::make_shared<const LocalIdentity>(kOther, label_set("app=web")), kThere);
  for (std::uint16_t i = 0; i < 100; i++) {
    leave(Connection::number(i).syn());
  }
  const Connection other = Connection::number(200);
  const Packet asked = handle(kThere, other.syn(), true, kOther).packet;
  for (std::uint16_t i = 100; i < 180; i++) {
    leave(Connection::number(i).syn());
  }
  EXPECT_LE(proved.requests.size(), 64U);
  EXPECT_GT(proved.requests.crowding().given_up, 0U);
  EXPECT_EQ(proved.requests.crowding().holder.owner, Owner::workload(kClient));
  EXPECT_EQ(arrive(asked).ruling, abi::Ruling::meet)
      << "the other workload's request is still remembered";
}

TEST_F(Meets, ANumberIsBelievedWhereItsWorkloadIs) {
  // Root in a network namespace can queue packets with any number.
  EXPECT_EQ(handle(kHere, connection.syn(), true, kClient).ruling, abi::Ruling::refuse);
  EXPECT_EQ(last(), Reason::unknown_workload);
  const Packet left = leave(connection.syn()).packet;
  EXPECT_EQ(handle(kThere, left, false, kServer).ruling, abi::Ruling::refuse);
  engine->enter(kHere, kClient);
  EXPECT_EQ(handle(kHere, connection.syn(), true, kClient).ruling, abi::Ruling::pass)
      << "the workload is at this point too";
  engine->leave(kHere, kClient);
  EXPECT_EQ(handle(kHere, connection.syn(), true, kClient).ruling, abi::Ruling::refuse);
}

TEST_F(Meets, ARepeatedRequestIsForWhomItWasAllowed) {
  constexpr policy::Number kNext = 81;
  engine->add_local(std::make_shared<const LocalIdentity>(kNext, label_set("app=db")), kHere);
  const Packet left = leave(connection.syn()).packet;
  EXPECT_EQ(arrive(left).ruling, abi::Ruling::meet);
  const Outcome repeated = handle(kHere, left, false, abi::kDecided | kNext);
  EXPECT_TRUE(repeated.drop) << "another listener";
  ASSERT_EQ(port.changes.size(), 1U);
  EXPECT_EQ(port.changes[0].second, FlowChange::forget)
      << "and nothing uses the former authorization";
  EXPECT_EQ(arrive(left).ruling, abi::Ruling::meet);
  Packet other = left;
  other.at(other.size() - 1) ^= 1U;
  EXPECT_TRUE(handle(kHere, other, false, abi::kDecided | kServer).drop) << "another request";
}

TEST_F(Meets, ARequestThatWasAnsweredIsNobodysAnyMore) {
  leave(connection.syn());
  Draft reset;
  reset.ends = {connection.ends.destination, connection.ends.source,
                connection.ends.destination_port, connection.ends.source_port};
  reset.flags = wire::kRst | wire::kAck;
  reset.acknowledgement = segment(connection.syn()).sequence() + 1;
  answered(reset.bytes());
  EXPECT_EQ(proved.requests.size(), 0U) << "the port is closed";
  leave(connection.syn());
  EXPECT_EQ(proved.requests.size(), 1U);
  answered(connection.syn_ack());
  EXPECT_EQ(proved.requests.size(), 0U) << "not a workload of this host";
}

TEST_F(Meets, WhatWasAskedBeginsAnewWhereTheAddressMoves) {
  leave(connection.syn());
  engine->set_near({});
  engine->set_peers({policy::Prefix::parse("10.0.0.0/8").value()});
  EXPECT_EQ(leave(connection.syn()).ruling, abi::Ruling::refuse);
  EXPECT_EQ(last(), Reason::no_credential) << "and tokens are expected there";
}

TEST_F(Meets, NatOfTheServersOwnNetworkIsKnownWithItsAnswer) {
  const Packet left = leave(connection.syn()).packet;
  Connection turned = connection;  // REDIRECT there
  turned.ends.destination_port = 8080;
  const Outcome asked = handle(kHere, between(left, turned.ends), false, kServer | abi::kAnyNat);
  EXPECT_EQ(asked.ruling, abi::Ruling::pass) << "conntrack does not know it yet";
  EXPECT_EQ(segment(asked.packet).payload_size(), 0U);
  port.translate = [&](const wire::Ends& ends) { return Translation{connection.ends, ends}; };
  EXPECT_EQ(handle(kHere, turned.syn_ack(), true, abi::kAnyNat).ruling, abi::Ruling::authorize);
  EXPECT_EQ(answered(connection.syn_ack()).ruling, abi::Ruling::authorize);
}

TEST_F(Meets, WhatIsNotTheClientsIsRefusedWithItsAnswer) {
  const Packet left = leave(connection.syn()).packet;
  Connection other = connection;
  other.ends.source = address("10.0.0.9");
  EXPECT_EQ(handle(kHere, between(left, other.ends), false, kServer | abi::kAnyNat).ruling,
            abi::Ruling::pass);
  EXPECT_EQ(handle(kHere, other.syn_ack(), true, abi::kAnyNat).ruling, abi::Ruling::refuse);
  EXPECT_EQ(last(), Reason::other_address);
}

TEST_F(Meets, NatOfTheClientsOwnNetworkIsLookedThrough) {
  const Packet left = leave(connection.syn()).packet;
  Connection masked = connection;
  masked.ends.source = address("10.0.0.77");
  port.translate = [&](const wire::Ends& ends) {
    return ends == connection.ends ? Translation{ends, masked.ends} : Translation{ends, ends};
  };
  EXPECT_EQ(arrive(between(left, masked.ends)).ruling, abi::Ruling::meet);
}

TEST_F(Meets, BothAtOnceAreRefused) {
  const Connection there = connection;
  Connection back = connection;
  std::swap(back.ends.source, back.ends.destination);
  std::swap(back.ends.source_port, back.ends.destination_port);
  const Packet left = leave(there.syn()).packet;
  handle(kHere, back.syn(), true, kServer);
  EXPECT_EQ(arrive(left).ruling, abi::Ruling::refuse);
  EXPECT_EQ(last(), Reason::simultaneous_open);
}

/// The same over UDP.
struct MeetsDatagrams : Meets {
  wire::Ends ends{address("10.0.0.1"), address("10.0.0.2"), 40'000, 53};
  wire::Ends back{ends.destination, ends.source, ends.destination_port, ends.source_port};
  Packet query = datagram(ends, "query");

  Answer send_first() { return give(kThere, query, true, kClient | abi::kFresh); }
  Answer meet(const Packet& packet) { return give(kHere, packet, false, kServer | abi::kFresh); }
};

TEST_F(MeetsDatagrams, WaitUntilTheServersEndHasAgreed) {
  EXPECT_TRUE(send_first().hold);
  const std::uint32_t waiting = last_id;
  const Packet sent = port.take();
  EXPECT_EQ(parsed(sent).payload_size(), wire::kTagDatagram);
  EXPECT_EQ(wire::control_message(parsed(sent).payload()),
            static_cast<std::uint8_t>(wire::Message::meet));
  const Answer met = meet(sent);
  EXPECT_EQ(met.priority, ruling(abi::Ruling::meet, 1000));
  ASSERT_TRUE(met.changed);
  EXPECT_EQ(parsed(*met.changed).ends().destination_port, 0) << "no socket receives it";
  ASSERT_TRUE(met.awaits);
  EXPECT_TRUE(port.sent.empty()) << "not before conntrack knows the flow";
  now.monotonic += 100ms;
  port.perform(engine->tick(now), 0);
  EXPECT_TRUE(port.verdicts.empty()) << "and the client's side cannot look it up yet";
  port.sent.clear();
  port.go_on(*engine);
  const Packet ready = port.take();
  EXPECT_TRUE(give(kThere, ready, false, kClient).drop);
  ASSERT_EQ(port.verdicts.size(), 1U);
  EXPECT_EQ(port.verdicts[0].id, waiting);
  EXPECT_EQ(port.verdicts[0].priority, ruling(abi::Ruling::authorize, 1000));
  EXPECT_EQ(proved.first_datagrams.size(), 0U);
  EXPECT_EQ(proved.datagrams.size(), 1U);
}

TEST_F(MeetsDatagrams, ReadyMayBeLost) {
  send_first();
  const Packet sent = port.take();
  meet(sent);
  port.go_on(*engine);
  std::ignore = port.take();
  const Answer again = meet(sent);
  EXPECT_TRUE(again.drop);
  std::ignore = port.take();  // READY again; lost as well
  now.monotonic += 100ms;
  port.perform(engine->tick(now), 0);
  ASSERT_EQ(port.verdicts.size(), 1U) << "the client's side looks the decision up by itself";
  EXPECT_EQ(port.verdicts[0].priority, ruling(abi::Ruling::authorize, 1000));
  EXPECT_TRUE(port.sent.empty());
}

TEST_F(MeetsDatagrams, NobodyIsBelievedWhoSaysThatItIsReady) {
  send_first();
  const Packet sent = port.take();
  const auto tag = parsed(sent).payload().last(wire::kTagSize);
  std::array<std::uint8_t, wire::kTagDatagram> forged{};
  wire::write_tag_message({wire::Message::ready, wire::CredentialType::local, wire::kDatagram,
                           tag.first<wire::kTagSize>()},
                          forged);
  give(kThere, datagram(back, forged), false, kClient);
  EXPECT_TRUE(port.verdicts.empty());
}

TEST_F(MeetsDatagrams, OtherLabelsAreRefusedAtBothEnds) {
  set_labels("app=web", "app=db");
  send_first();
  EXPECT_EQ(meet(port.take()).priority, ruling(abi::Ruling::refuse));
  EXPECT_EQ(last(), Reason::policy);
  now.monotonic += 100ms;
  port.perform(engine->tick(now), 0);
  ASSERT_EQ(port.verdicts.size(), 1U);
  EXPECT_EQ(port.verdicts[0].priority, ruling(abi::Ruling::refuse));
  EXPECT_EQ(events.size(), 2U);
}

TEST_F(MeetsDatagrams, WhatANeighbourPassesOnIsDropped) {
  send_first();
  const Packet sent = port.take();
  wire::Ends other = ends;
  other.source = address("10.0.0.9");
  const auto payload = parsed(sent).payload();
  EXPECT_TRUE(meet(datagram(other, payload)).drop);
  EXPECT_EQ(last(), Reason::other_address);
  Packet closing(payload.begin(), payload.end());
  closing.at(11) |= wire::kClosing;
  EXPECT_EQ(engine->statistics().authorized, 0U);
  EXPECT_EQ(meet(datagram(ends, closing)).priority, ruling(abi::Ruling::meet, 1000))
      << "MEET does not say what it is for";
  EXPECT_TRUE(port.changes.empty());
}

TEST_F(MeetsDatagrams, AClientWhoHasEndedIsNotReleased) {
  send_first();
  const Packet sent = port.take();
  meet(sent);
  port.go_on(*engine);
  engine->remove_local(kClient);
  give(kThere, port.take(), false, kClient);
  ASSERT_EQ(port.verdicts.size(), 1U);
  EXPECT_EQ(port.verdicts[0].priority, ruling(abi::Ruling::refuse));
}

TEST_F(MeetsDatagrams, AFlowOfAnothersIsEndedAtTheServerFirst) {
  send_first();
  meet(port.take());
  port.go_on(*engine);
  give(kThere, port.take(), false, kClient);
  port.verdicts.clear();
  constexpr policy::Number kHeir = 79;
  engine->add_local(std::make_shared<const LocalIdentity>(kHeir, label_set("app=web")), kThere);
  EXPECT_TRUE(give(kThere, query, true, kHeir | abi::kTakenOver).hold);
  const Packet ending = port.take();
  EXPECT_NE(parsed(ending).payload()[11] & wire::kClosing, 0);
  EXPECT_TRUE(give(kHere, ending, false, kServer).drop);
  port.go_on(*engine);
  ASSERT_GE(port.changes.size(), 2U);
  EXPECT_EQ(port.changes.front().second, FlowChange::withdraw);
  EXPECT_EQ(port.changes.back().second, FlowChange::forget);
  port.changes.clear();
  give(kThere, port.take(), false, kClient);
  EXPECT_EQ(port.changes.size(), 1U) << "on the client's side as well";
  EXPECT_TRUE(port.verdicts.empty());
  now.monotonic += 1s;
  EXPECT_EQ(meet(port.take()).priority, ruling(abi::Ruling::meet, 1000))
      << "and a flow of its own begins";
  port.go_on(*engine);
  give(kThere, port.take(), false, kHeir);
  ASSERT_EQ(port.verdicts.size(), 1U);
  EXPECT_EQ(port.verdicts[0].priority, ruling(abi::Ruling::authorize, 1000));
}

TEST_F(MeetsDatagrams, NobodyElseEndsAFlowOrTakesItsEnds) {
  send_first();
  meet(port.take());
  port.go_on(*engine);
  give(kThere, port.take(), false, kClient);
  constexpr policy::Number kHostile = 82;
  constexpr PointId kElsewhere = 3;
  engine->add_local(std::make_shared<const LocalIdentity>(kHostile, label_set("app=web")),
                    kElsewhere);
  give(kElsewhere, query, true,
       kHostile | abi::kTakenOver);  // forged: these are not its address and port
  port.changes.clear();
  EXPECT_TRUE(give(kHere, port.take(), false, kServer).drop);
  EXPECT_EQ(last(), Reason::other_address);
  EXPECT_TRUE(port.changes.empty());
  give(kElsewhere, query, true, kHostile | abi::kFresh);
  EXPECT_TRUE(give(kHere, port.take(), false, kServer).drop);
  EXPECT_EQ(last(), Reason::other_address);
}

TEST_F(MeetsDatagrams, OneWithTheSameEndsDoesNotDisplaceIt) {
  send_first();
  const Packet sent = port.take();
  constexpr policy::Number kHostile = 82;
  constexpr PointId kElsewhere = 3;
  engine->add_local(std::make_shared<const LocalIdentity>(kHostile, label_set("app=db")),
                    kElsewhere);
  give(kElsewhere, query, true, kHostile | abi::kFresh);
  EXPECT_EQ(meet(sent).priority, ruling(abi::Ruling::meet, 1000));
}

TEST_F(MeetsDatagrams, TheServerHasEndedTheFlowBeforeTheClientKnows) {
  send_first();
  meet(port.take());
  port.go_on(*engine);
  give(kThere, port.take(), false, kClient);
  EXPECT_TRUE(give(kThere, query, true, abi::kHost | abi::kTakenOver | abi::kFresh).hold);
  port.verdicts.clear();
  port.on_change = [&](FlowChange what) {
    if (what == FlowChange::withdraw) {
      now.monotonic += 100ms;
      port.perform(engine->tick(now), 0);  // the client's side looks the decision up
      EXPECT_TRUE(port.verdicts.empty());
    }
  };
  give(kHere, port.take(), false, kServer);
  port.go_on(*engine);
  port.on_change = nullptr;
  EXPECT_GE(port.changes.size(), 2U);
}

TEST_F(MeetsDatagrams, AServerWithoutLabelsIsAsPolicySays) {
  allow_world();
  send_first();
  for (int i = 0; i < 10; i++) {
    now.monotonic += 400ms;
    port.perform(engine->tick(now), 0);
  }
  ASSERT_EQ(port.verdicts.size(), 1U);
  EXPECT_EQ(port.verdicts[0].priority, ruling(abi::Ruling::authorize));
}

}  // namespace
}  // namespace trireme::handshake
