// SPDX-License-Identifier: Apache-2.0
// TCP beyond the plain three-way handshake: repetition, unusual options, port reuse, simultaneous
// open, resets.
#include "handshake_support.hpp"
#include "trireme/wire/token.hpp"

namespace trireme::handshake {
namespace {

struct Segments : testing::Test {
  End client{psk_trust("client", kSecret), "app=web"};
  End server{psk_trust("server", kSecret), "app=web"};
  Connection connection;

  static std::size_t count(const Packet& packet, std::uint8_t kind) {  // options of that kind
    const wire::Segment view = segment(packet);
    std::size_t found = 0;
    for (std::size_t at = view.tcp_offset() + 20; at < view.header_size() && packet[at] != 0;) {
      found += packet[at] == kind ? 1U : 0U;
      at += packet[at] == 1 ? 1U : std::max<std::size_t>(packet[at + 1], 1);
    }
    return found;
  }
  /// A whole handshake whose SYN and SYN-ACK have these options.
  void expect_connects_with(const Packet& options, const Packet& data = {}) {
    const Outcome asked = client.out(
        Draft{.ends = connection.ends, .sequence = 1000, .options = options, .data = data}.bytes());
    ASSERT_TRUE(asked.passes()) << text(client.last());
    ASSERT_LE(asked.packet.size(), wire::kMaxTokenPacket);
    ASSERT_TRUE(server.in(asked.packet).passes()) << text(server.last());
    const Outcome replied = server.out(Draft{.ends = connection.back(),
                                             .flags = wire::kSyn | wire::kAck,
                                             .sequence = 5000,
                                             .acknowledgement = 1001,
                                             .options = options}
                                           .bytes());
    ASSERT_TRUE(replied.passes()) << text(server.last());
    const Outcome verified = client.in(replied.packet);
    ASSERT_TRUE(verified.authorizes()) << text(client.last());
    ASSERT_TRUE(server.in(*verified.proof).authorizes()) << text(server.last());
    said_ = asked.packet;
    connection.ends.source_port++;
  }
  Packet said_;
};

TEST_F(Segments, ARepeatedSynCarriesTheSameHello) {
  const Packet first = client.out(connection.syn()).packet;
  EXPECT_EQ(client.out(connection.syn()).packet, first);
  client.pass_time(std::chrono::seconds(63));
  EXPECT_EQ(client.out(connection.syn()).packet, first);
  EXPECT_NE(client.out(connection.syn(77)).packet, first) << "another connection";
}

TEST_F(Segments, ARepeatedSynCarriesTheSameHelloWhileItsReplyIsOnTheWay) {
  const Exchange said = exchange(client, server, connection);
  // The client's kernel repeats its SYN before REPLY's verdict reaches it.
  EXPECT_EQ(client.out(connection.syn()).packet, said.hello);
  EXPECT_TRUE(server.in(said.hello).passes());
  EXPECT_TRUE(server.in(said.proof).authorizes());
  // A lost PROOF is still sent again.
  const Outcome again = client.in(said.reply);
  EXPECT_TRUE(again.drop);
  EXPECT_EQ(again.proof, said.proof);
}

TEST_F(Segments, ASynThatArrivesLateLeavesACompleteHandshakeAlone) {
  const Exchange said = exchange(client, server, connection);
  ASSERT_TRUE(server.in(said.proof).authorizes());
  EXPECT_TRUE(server.in(said.hello).drop)
      << "TCP has the connection already, or has ended it; then its proof is used up";
  EXPECT_EQ(server.refused(Reason::conflict), 1U);
  EXPECT_TRUE(server.in(connection.data()).authorizes()) << "data that was queued behind it";
}

TEST_F(Segments, ARepeatedSynAckCarriesTheIdenticalReply) {
  const Packet first = exchange(client, server, connection).reply;
  EXPECT_EQ(server.out(connection.syn_ack()).packet, first);
  server.pass_time(std::chrono::seconds(31));
  EXPECT_EQ(server.out(connection.syn_ack()).packet, first);
}

TEST_F(Segments, AReplyIsIdenticalAfterTrustAndLabelsHaveChanged) {
  const Packet first = exchange(client, server, connection).reply;
  server.engine->set_trust(psk_trust("server", std::string(kNextSecret) + kSecret));
  server.engine->add_local(
      std::make_shared<const LocalIdentity>(End::kNumber, label_set("app=web,zone=b")));
  EXPECT_EQ(server.out(connection.syn_ack()).packet, first) << "a key seals one text";
}

TEST_F(Segments, ALostProofIsSentAgainForEachRepeatedSynAck) {
  const Exchange said = exchange(client, server, connection);
  for (int times = 0; times < 5; times++) {
    const Outcome again = client.in(server.out(connection.syn_ack()).packet);
    EXPECT_TRUE(again.drop) << "the client's TCP has seen it";
    ASSERT_EQ(again.proof, said.proof);
  }
  EXPECT_TRUE(server.in(said.proof).authorizes());
  EXPECT_TRUE(server.in(said.proof).authorizes()) << "a duplicate does no harm";
  EXPECT_TRUE(server.in(connection.data()).authorizes());
}

/// Consecutive data segments of a client.
struct Early : Segments {
  [[nodiscard]] Packet part(std::uint32_t number, std::size_t size = 1) const {
    return Draft{.ends = connection.ends,
                 .flags = wire::kAck,
                 .sequence = 1001 + number * 100,
                 .acknowledgement = 5001,
                 .options = {},
                 .data = Packet(size, 'x')}
        .bytes();
  }
  void pass_time(std::chrono::milliseconds time) {
    server.pass_time(time);
    server.tick();
  }
};

TEST_F(Early, DataAheadOfProofWaitForItInTheirOrder) {
  const Exchange said = exchange(client, server, connection);
  for (std::uint32_t number = 0; number < 3; number++) {
    const Outcome early = server.in(part(number));
    EXPECT_TRUE(early.hold);
    EXPECT_EQ(early.syn_ack.has_value(), number == 0) << "PROOF is requested once";
  }
  const Outcome proved = server.in(said.proof);
  ASSERT_TRUE(proved.authorizes());
  EXPECT_EQ(proved.behind, (std::vector<Packet>{part(0), part(1), part(2)}));
  EXPECT_TRUE(server.held.empty());
  EXPECT_TRUE(server.in(said.proof).behind.empty()) << "once";
}

TEST_F(Early, ALostProofIsAskedForByTheServersOwnSynAck) {
  const Exchange said = exchange(client, server, connection);
  const Outcome early = server.in(connection.data());
  ASSERT_TRUE(early.syn_ack);
  const wire::Segment asks = segment(*early.syn_ack);
  EXPECT_EQ(asks.flags(), wire::kSyn | wire::kAck);
  EXPECT_EQ(asks.ends(), connection.back());
  EXPECT_EQ(asks.sequence(), 5000U);
  EXPECT_EQ(asks.acknowledgement(), 1001U);
  const Outcome leaves = server.out(*early.syn_ack);
  ASSERT_TRUE(leaves.passes()) << "as one of the server's TCP";
  const Outcome answered = client.in(leaves.packet);
  EXPECT_TRUE(answered.drop);
  ASSERT_EQ(answered.proof, said.proof);
  EXPECT_EQ(server.in(*answered.proof).behind, std::vector<Packet>{connection.data()});
}

TEST_F(Early, RepeatedDataDoNotWaitTwice) {
  const Exchange said = exchange(client, server, connection);
  EXPECT_TRUE(server.in(part(0)).syn_ack);
  const Outcome again = server.in(part(0));
  EXPECT_TRUE(again.drop);
  EXPECT_FALSE(again.syn_ack);
  EXPECT_EQ(server.in(said.proof).behind, std::vector<Packet>{part(0)});
}

TEST_F(Early, ProofIsAskedForAgain) {
  const Exchange said = exchange(client, server, connection);
  const Outcome early = server.in(part(0));
  std::vector<int> when;
  for (int at = 0; at < 3'000; at += 50) {
    pass_time(std::chrono::milliseconds(50));
    if (!server.asked.empty()) {
      EXPECT_EQ(server.asked, std::vector<Packet>{*early.syn_ack});
      server.asked.clear();
      when.push_back(at + 50);
    }
  }
  EXPECT_EQ(when, (std::vector<int>{100, 300, 700, 1'500, 2'500}));
  ASSERT_TRUE(server.in(part(0)).hold);
  ASSERT_TRUE(server.in(said.proof).authorizes());
  pass_time(std::chrono::seconds(1));
  EXPECT_TRUE(server.asked.empty()) << "PROOF has arrived";
}

TEST_F(Early, WhoHasNotSeenTheSynAckMakesNobodyAsk) {
  std::ignore = exchange(client, server, connection);
  const Packet blind = Draft{
      .ends = connection.ends,
      .flags = wire::kAck,
      .sequence = 1001,
      .acknowledgement = 77,
      .options = {},
      .data = {'x'}}.bytes();
  const Outcome outcome = server.in(blind);
  EXPECT_TRUE(outcome.drop);
  EXPECT_FALSE(outcome.syn_ack);
  EXPECT_EQ(server.refused(Reason::unproved_data), 1U);
}

TEST_F(Early, NobodyWaitsLongerThanThreeSeconds) {
  const Exchange said = exchange(client, server, connection);
  ASSERT_TRUE(server.in(part(0)).hold);
  EXPECT_TRUE(server.engine->next_tick());
  pass_time(std::chrono::milliseconds(2'999));
  EXPECT_EQ(server.held.size(), 1U);
  pass_time(std::chrono::milliseconds(100));
  EXPECT_TRUE(server.held.empty()) << "dropped";
  EXPECT_GT(server.engine->next_tick(), server.now.monotonic + std::chrono::seconds(60))
      << "when the handshake times out";
  const Outcome proved = server.in(said.proof);
  EXPECT_TRUE(proved.authorizes());
  EXPECT_TRUE(proved.behind.empty());
}

TEST_F(Early, DataOfARefusedHandshakeAreDropped) {
  const Exchange said = exchange(client, server, connection);
  ASSERT_TRUE(server.in(part(0)).hold);
  policy::Policy nothing;
  nothing.baseline = policy::Baseline::none;
  server.set_policy(nothing);
  EXPECT_EQ(server.in(said.proof).ruling, abi::Ruling::refuse);
  EXPECT_TRUE(server.held.empty());
}

TEST_F(Early, DataWaitForTheirOwnHandshakeAlone) {
  const Exchange said = exchange(client, server, connection);
  ASSERT_TRUE(server.in(part(0)).hold);
  for (End* end : {&client, &server}) {
    end->pass_time(std::chrono::milliseconds(2'900));  // the data is not dropped yet
  }
  server.pass_time(std::chrono::milliseconds(100));
  client.pass_time(std::chrono::milliseconds(100));
  const Outcome asked = client.out(connection.syn(90'000));  // port reuse
  ASSERT_TRUE(server.in(asked.packet).passes()) << text(server.last());
  const Outcome verified = client.in(server.out(connection.syn_ack(90'000)).packet);
  const Outcome proved = server.in(verified.proof.value());
  EXPECT_TRUE(proved.authorizes());
  EXPECT_TRUE(proved.behind.empty());
}

TEST_F(Early, WhatWaitsIsBounded) {
  std::ignore = exchange(client, server, connection);
  for (std::uint32_t number = 0; number < 20; number++) {
    EXPECT_EQ(server.in(part(number)).hold, number < 16) << number;
  }
  pass_time(std::chrono::seconds(3));
  EXPECT_TRUE(server.in(part(20, 60'000)).hold);
  EXPECT_TRUE(server.in(part(21, 60'000)).hold);
  EXPECT_TRUE(server.in(part(22, 60'000)).drop) << "128 KiB of one connection";
}

TEST_F(Early, WhatWaitsOfAllConnectionsIsBounded) {
  End many_client(psk_trust("client", kSecret), "app=web", "10.0.0.0/8", 16'384);
  End many(psk_trust("server", kSecret), "app=web", "10.0.0.0/8", 16'384);
  std::vector<Exchange> said;
  for (std::uint16_t number = 0; number < 1'100; number++) {
    said.push_back(exchange(many_client, many, Connection::number(number)));
    const Outcome early = many.in(Connection::number(number).data());
    EXPECT_EQ(early.hold, number < 1'024);
    EXPECT_TRUE(early.syn_ack) << "PROOF is requested although the data cannot wait";
  }
  EXPECT_EQ(many.in(said[5].proof).behind.size(), 1U) << "in the middle";
  EXPECT_EQ(many.in(said[0].proof).behind.size(), 1U);
  EXPECT_TRUE(many.in(Connection::number(1'050).data()).hold) << "there is room again";
  many.pass_time(std::chrono::seconds(3));
  many.tick();
  EXPECT_TRUE(many.held.empty());
}

TEST_F(Segments, MultipathOptionsLeave) {
  expect_connects_with({2, 4, 5, 180, 30, 4, 0, 1});
  EXPECT_EQ(count(said_, 30), 0U);
}

TEST_F(Segments, FastOpenCookiesLeave) {
  expect_connects_with({2, 4, 5, 180, 34, 2, 1, 1});
  EXPECT_EQ(count(said_, 34), 0U);
  expect_connects_with({34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1});
  EXPECT_EQ(count(said_, 34), 0U);
  expect_connects_with({254, 4, 0xf9, 0x89});
  EXPECT_EQ(count(said_, 254), 0U);
}

TEST_F(Segments, FastOpenDataIsSentLater) {
  expect_connects_with({34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1}, {'G', 'E', 'T'});
  const auto payload = segment(said_).payload();
  EXPECT_TRUE(wire::read_token(wire::Message::hello, payload))
      << "HELLO is all that the SYN carries";
}

TEST_F(Segments, FullOptionSpaceIsNoObstacle) {
  Packet options = {2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 3, 3, 7};
  options.resize(40, 1);
  expect_connects_with(options);
}

TEST_F(Segments, ASmallMssIsNoObstacle) {
  expect_connects_with({2, 4, 2, 24});  // 536
}

TEST_F(Segments, NoOptionsAtAllAreNoObstacle) {
  expect_connects_with({});
}

TEST_F(Segments, SignedSegmentsAreRefusedAtOnce) {
  Packet options(20, 1);
  options[0] = 19;  // MD5, RFC 2385
  options[1] = 18;
  EXPECT_EQ(client.out(Draft{.ends = connection.ends, .sequence = 1000, .options = options}.bytes())
                .ruling,
            abi::Ruling::refuse);
  EXPECT_EQ(client.last(), Reason::signed_segments);
}

TEST_F(Segments, LabelsThatDoNotFitAreRefusedWithTheNumbers) {
  std::string labels = "app=web";
  for (int i = 0; i < 20; i++) {
    labels += ",label-" + std::to_string(i) + "=" + std::string(63, 'x');
  }
  client.engine->add_local(std::make_shared<const LocalIdentity>(End::kNumber, label_set(labels)));
  EXPECT_EQ(client.out(connection.syn()).ruling, abi::Ruling::refuse);
  EXPECT_EQ(client.last(), Reason::token_too_large);
  EXPECT_NE(client.events.back().detail.find("there is room for"), std::string::npos)
      << client.events.back().detail;
}

TEST_F(Segments, PortsAreUsedAgain) {
  ASSERT_TRUE(connects(client, server, connection));
  server.connected = false;  // the former connection has ended
  const Outcome asked = client.out(connection.syn(90'000));
  ASSERT_TRUE(asked.passes());
  ASSERT_EQ(server.in(asked.packet).ruling, abi::Ruling::pass);
  const Outcome replied = server.out(connection.syn_ack(90'000));
  const Outcome verified = client.in(replied.packet);
  ASSERT_TRUE(verified.authorizes()) << text(client.last());
  EXPECT_TRUE(server.in(*verified.proof).authorizes());
}

TEST_F(Segments, PortsAreUsedAgainByAWorkloadWithOtherLabels) {
  ASSERT_TRUE(connects(client, server, connection));
  server.connected = false;  // the former connection has ended
  constexpr policy::Number kOther = 78;
  client.engine->add_local(std::make_shared<const LocalIdentity>(kOther, label_set("app=other")));
  const Outcome asked = client.out(connection.syn(), kOther);  // even with the same sequence number
  ASSERT_TRUE(asked.passes());
  EXPECT_EQ(server.in(asked.packet).ruling, abi::Ruling::refuse);
  EXPECT_EQ(server.last(), Reason::policy);
}

TEST_F(Segments, PortsOfAHandshakeUnderWayAreAnothersAfterAMoment) {
  ASSERT_FALSE(
      exchange(client, server, connection).reply.empty());  // abandoned: the client is gone
  const Outcome asked = client.out(connection.syn(90'000));
  EXPECT_TRUE(server.in(asked.packet).drop);
  EXPECT_EQ(server.refused(Reason::conflict), 1U);
  for (End* end : {&client, &server}) {
    end->pass_time(
        std::chrono::milliseconds(3'100));  // TCP repeats the SYN after 1 and after 3 seconds
  }
  const Outcome again = client.out(connection.syn(90'000));
  EXPECT_EQ(again.packet, asked.packet);
  EXPECT_EQ(server.in(again.packet).ruling, abi::Ruling::pass);
}

TEST_F(Segments, NothingFollowsARequestOnAnAuthorizedFlow) {
  enum class Before : std::uint8_t { nothing, answered, complete };
  std::uint16_t number = 0;
  for (const Before before : {Before::nothing, Before::answered, Before::complete}) {
    const Connection flow = Connection::number(number++);
    const Exchange said = before == Before::nothing ? Exchange{} : exchange(client, server, flow);
    if (before == Before::complete) {
      ASSERT_TRUE(server.in(said.proof).authorizes());
    }
    End other(psk_trust("other", kSecret), "app=web");
    const Outcome passed = server.in(other.out(flow.syn(90'000)).packet, abi::kDecided);
    EXPECT_EQ(passed.ruling, abi::Ruling::pass)
        << "the earlier connection's TCP answers, if there is one";
    EXPECT_EQ(segment(passed.packet).payload_size(), 0U);
    const Outcome replied = server.out(flow.syn_ack(90'000));
    EXPECT_TRUE(replied.drop || replied.ruling == abi::Ruling::refuse) << "no SYN-ACK leaves";
    EXPECT_EQ(server.in(flow.data()).authorizes(), before == Before::complete) << "as it was";
    EXPECT_TRUE(server.changes.empty());
  }
}

TEST_F(Segments, OfAConnectionThatIsOverNothingIsLeftForARequest) {
  const Exchange said = exchange(client, server, connection);
  ASSERT_TRUE(server.in(said.proof).authorizes());
  server.connected = false;
  End other(psk_trust("other", kSecret), "app=web");
  const Packet asked = other.out(connection.syn(90'000)).packet;
  EXPECT_TRUE(server.in(asked, abi::kDecided).drop) << "a listener would answer it";
  ASSERT_EQ(server.changes.size(), 1U) << "the conntrack entry is removed with its authorization";
  EXPECT_EQ(server.changes.front(), std::pair(connection.ends, FlowChange::forget));
  EXPECT_FALSE(server.in(connection.data()).passes());
  EXPECT_EQ(server.in(asked).ruling, abi::Ruling::pass)
      << "the SYN that TCP repeats begins a new handshake";
  EXPECT_FALSE(server.in(connection.data()).passes());
}

TEST_F(Segments, AWorkloadWithOtherLabelsGetsNoAnswerToItsFormerQuestion) {
  const Packet asked = client.out(connection.syn()).packet;
  ASSERT_EQ(server.in(asked).ruling, abi::Ruling::pass);
  const Packet reply = server.out(connection.syn_ack()).packet;
  client.engine->remove_local(End::kNumber);
  EXPECT_FALSE(client.in(reply).authorizes());
  EXPECT_EQ(client.last(), Reason::unknown_workload);
  const Connection next = Connection::number(1);
  client.engine->add_local(
      std::make_shared<const LocalIdentity>(End::kNumber, label_set("app=web")));
  client.out(next.syn());
  client.engine->add_local(
      std::make_shared<const LocalIdentity>(End::kNumber, label_set("app=other")));
  EXPECT_FALSE(client.in(next.syn_ack()).authorizes());
}

TEST_F(Segments, AReplyThatIsLargerThanAnyIsRefused) {
  const Packet asked = client.out(connection.syn()).packet;
  const Packet reply =
      server.in(asked).passes() ? server.out(connection.syn_ack()).packet : Packet{};
  const auto token = wire::read_token(wire::Message::reply, segment(reply).payload());
  ASSERT_TRUE(token);
  constexpr std::size_t kLabels = 1403;  // and a packet of 1,500 bytes
  Packet bytes(segment(reply).payload().begin(), segment(reply).payload().end());
  bytes[29] = 9;  // as short as a credential can be
  bytes[30] = kLabels >> 8U;
  bytes[31] = kLabels & 0xffU;
  bytes.resize(wire::kTokenHeader + 9 + kLabels + wire::kTagSize);
  Packet larger = Draft{.ends = connection.back(),
                        .flags = wire::kSyn | wire::kAck,
                        .sequence = 5000,
                        .acknowledgement = 1001,
                        .options = {},
                        .data = bytes}
                      .bytes();
  EXPECT_FALSE(client.in(larger).passes() && client.last() == Reason::none);
  EXPECT_EQ(client.last(), Reason::malformed_token);
}

TEST_F(Segments, AnotherSynCannotTakeAHandshakeAway) {
  const Exchange said = exchange(client, server, connection);
  End stranger(psk_trust("client", kSecret), "app=web");
  EXPECT_TRUE(server.in(stranger.out(connection.syn(2'000)).packet).drop);
  EXPECT_TRUE(server.in(said.proof).authorizes());
}

TEST_F(Segments, SimultaneousOpenIsRefusedAtOnceAtBothEnds) {
  const Packet ours = client.out(connection.syn()).packet;
  const Packet theirs =
      server.out(Draft{.ends = connection.back(), .sequence = 9000}.bytes()).packet;
  const Outcome here = client.in(theirs);
  EXPECT_EQ(here.ruling, abi::Ruling::refuse);
  EXPECT_EQ(client.last(), Reason::simultaneous_open);
  EXPECT_EQ(server.in(ours).ruling, abi::Ruling::refuse);
  EXPECT_EQ(server.last(), Reason::simultaneous_open);
}

TEST_F(Segments, AFlowFromAnAddressToItselfAuthorizesNothing) {
  Connection own;
  own.ends.destination = own.ends.source;
  own.ends.destination_port = own.ends.source_port;  // TCP self-connect; on lo the ruleset
                                                     // decides without the verifier
  const Outcome asked = client.out(own.syn());
  ASSERT_TRUE(asked.passes());
  EXPECT_FALSE(client.in(asked.packet).authorizes());
  EXPECT_FALSE(client.out(own.syn_ack()).authorizes());
  EXPECT_FALSE(client.in(own.syn_ack()).authorizes());
  EXPECT_FALSE(client.in(own.data()).authorizes());
}

TEST_F(Segments, AResetAuthorizesNothingInAnyState) {
  const auto is_nothing = [&](const char* state) {
    for (const bool outgoing : {false, true}) {
      EXPECT_FALSE(client.handle(connection.reset(), outgoing).authorizes()) << state;
      EXPECT_FALSE(server.handle(connection.reset(), outgoing).authorizes()) << state;
    }
  };
  is_nothing("none");
  const Packet hello = client.out(connection.syn()).packet;
  is_nothing("asked");
  ASSERT_TRUE(server.in(hello).passes());
  is_nothing("received");
  const Packet reply = server.out(connection.syn_ack()).packet;
  is_nothing("answered");
  const Outcome verified = client.in(reply);
  ASSERT_TRUE(verified.authorizes())
      << "a reset does not end a handshake: anyone can send one, and TCP checks its numbers";
  EXPECT_TRUE(server.in(*verified.proof).authorizes());
}

TEST_F(Segments, FragmentsOfHeadersAreDropped) {
  Packet packet = connection.syn();
  packet.resize(30);
  EXPECT_TRUE(client.handle(packet, true).drop);
  EXPECT_EQ(client.refused(Reason::malformed_packet), 1U);
}

TEST_F(Segments, AProofWithDataBringsItsData) {
  // trireme does not send one, but another implementation may.
  const Exchange said = exchange(client, server, connection);
  Draft draft{.ends = connection.ends,
              .flags = wire::kAck,
              .sequence = 1001,
              .acknowledgement = 5001,
              .options = {},
              .data = {'G'}};
  const auto tag = segment(said.proof).proof().value();
  draft.options = {253, 20, 0x54, 0x33};
  draft.options.insert(draft.options.end(), tag.begin(), tag.end());
  const Outcome proved = server.in(draft.bytes());
  ASSERT_TRUE(proved.authorizes());
  EXPECT_EQ(segment(proved.packet).payload_size(), 1U);
}

TEST_F(Segments, Ipv6IsTheSame) {
  Connection six;
  six.ends.source = address("fd00::1");
  six.ends.destination = address("fd00::2");
  EXPECT_TRUE(connects(client, server, six));
}

}  // namespace
}  // namespace trireme::handshake
