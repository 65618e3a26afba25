// SPDX-License-Identifier: Apache-2.0
// Attacks on the UDP handshake, and their cost.
#include <algorithm>

#include "handshake_datagram_support.hpp"

namespace trireme::handshake {
namespace {

/// The datagram with one bit of its data flipped.
Packet flipped(const Packet& packet, const wire::Ends& ends, std::size_t bit) {
  const auto payload = parsed(packet).payload();
  Packet data(payload.begin(), payload.end());
  data[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
  return datagram(ends, data);
}

TEST_F(DatagramTest, NoBitOfReplyProofOrReadyCanBeFlipped) {
  const Packet asked = hello();
  const auto reply = server.take_hello(asked, abi::kFresh);
  ASSERT_TRUE(reply);
  const auto bits = [](const Packet& packet) { return parsed(packet).payload_size() * 8; };
  for (std::size_t bit = 0; bit < bits(*reply); bit++) {
    EXPECT_TRUE(client.arrive(flipped(*reply, back, bit), abi::kReplies).drop);
    ASSERT_TRUE(client.port.verdicts.empty() && client.port.sent.empty()) << "bit " << bit;
  }
  EXPECT_TRUE(client.arrive(*reply, abi::kReplies).drop);
  EXPECT_EQ(client.port.verdicts.size(), 1U) << "the server's valid REPLY is still accepted";
  const Packet proof = client.port.take();
  EXPECT_TRUE(server.arrive(data()).hold);
  constexpr std::size_t kBehindMagic = 64;  // without the magic, the datagram is application data
  for (std::size_t bit = kBehindMagic; bit < bits(proof); bit++) {
    const Answer answer = server.arrive(flipped(proof, ends, bit));
    EXPECT_TRUE(answer.drop || answer.priority == ruling(abi::Ruling::refuse)) << "bit " << bit;
    ASSERT_TRUE(server.port.verdicts.empty() && server.port.sent.empty()) << "bit " << bit;
  }
  EXPECT_TRUE(server.arrive(proof).drop);
  const Packet ready = server.port.take();
  for (std::size_t bit = kBehindMagic; bit < bits(ready); bit++) {
    EXPECT_TRUE(client.arrive(flipped(ready, back, bit), abi::kReplies).drop);
  }
  client.pass(100);
  EXPECT_EQ(client.port.sent.size(), 1U) << "PROOF is repeated: none of them was READY";
}

TEST_F(DatagramTest, AnotherHelloLeavesWhatWasJustProvedAlone) {
  authorize();
  Host other(psk_trust("a", kSecret), "app=web");
  ASSERT_TRUE(other.leave(data(), abi::kFresh).hold);
  const Packet overheard = other.port.take();
  EXPECT_FALSE(server.take_hello(overheard));
  EXPECT_EQ(server.refused(Reason::conflict), 1U);
  EXPECT_FALSE(server.arrive(data()).hold) << "as before";
  server.pass(1'100);
  EXPECT_TRUE(server.take_hello(overheard)) << "a client that was started again";
}

TEST_F(DatagramTest, MessagesOfTcpAreNoneOfUdp) {
  End tcp(psk_trust("a", kSecret), "app=web");
  const Connection connection;
  const Outcome asked = tcp.out(connection.syn());
  const auto token = segment(asked.packet).payload();
  EXPECT_FALSE(server.take_hello(datagram(ends, token), abi::kFresh));
  EXPECT_EQ(server.refused(Reason::malformed_token), 1U);
  const Packet padded = hello();
  const auto said = parsed(padded).payload();
  EXPECT_FALSE(wire::read_token(wire::Message::hello, said));
}

TEST_F(DatagramTest, AForgedTearDownEndsNothing) {
  authorize();
  Host stranger(psk_trust("x", "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=\n"), "app=web");
  EXPECT_TRUE(stranger.give(data(), true, abi::kTakenOver, 1).drop);
  const Packet closing = stranger.port.take();
  EXPECT_FALSE(server.take_hello(closing)) << "another secret";
  // A message of the client's own other handshake, with the flag set.
  Host again(psk_trust("a", kSecret), "app=web");
  EXPECT_TRUE(again.give(data(), true, abi::kTakenOver, 1).drop);
  const auto reply = server.take_hello(again.port.take());
  ASSERT_TRUE(reply);
  std::array<std::uint8_t, wire::kTagDatagram> forged{};
  wire::write_tag_message({wire::Message::proof, wire::CredentialType::psk,
                           wire::kDatagram | wire::kClosing, wire::Tag{}},
                          forged);
  EXPECT_TRUE(server.arrive(datagram(ends, forged)).drop);
  wire::write_tag_message({wire::Message::ready, wire::CredentialType::psk,
                           wire::kDatagram | wire::kClosing, wire::Tag{}},
                          forged);
  EXPECT_TRUE(client.arrive(datagram(back, forged), abi::kReplies).drop);
  EXPECT_TRUE(server.port.changes.empty());
  EXPECT_TRUE(client.port.changes.empty());
}

TEST_F(DatagramTest, NothingIsAmplified) {
  // A HELLO without its padding is shorter than the REPLY that it would get.
  const Packet asked = hello();
  const auto whole = parsed(asked).payload();
  const std::size_t token = wire::hello_size(8 + 1, 8);
  EXPECT_FALSE(server.take_hello(datagram(ends, whole.first(token)), abi::kFresh));
  EXPECT_EQ(server.events.back().detail, "HELLO is shorter than its REPLY");
  // Other messages get no answer.
  for (const std::size_t size :
       {std::size_t{8}, std::size_t{12}, std::size_t{28}, std::size_t{100}, whole.size() - 1}) {
    for (std::uint8_t message = 0; message < 8; message++) {
      Packet junk(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
      if (junk.size() > 9) {
        junk[9] = message;
      }
      junk[junk.size() - 1] ^= 1;
      EXPECT_FALSE(server.arrive(datagram(ends, junk), abi::kFresh).awaits);
    }
  }
  EXPECT_TRUE(server.port.sent.empty());
}

/// HELLO proves nothing and can be copied from the wire, so datagrams that wait because of it must
/// time out.
TEST_F(DatagramTest, AHelloWithoutItsPaddingLeavesNothingWaiting) {
  const Packet asked = hello();
  ASSERT_TRUE(server.take_hello(asked, abi::kFresh));
  EXPECT_TRUE(server.arrive(data()).hold);
  EXPECT_TRUE(server.arrive(data()).hold);
  const std::size_t token = wire::hello_size(8 + 1, 8);
  EXPECT_FALSE(server.take_hello(datagram(ends, parsed(asked).payload().first(token))));
  EXPECT_EQ(server.port.verdicts.size(), 2U) << "they are dropped";
  EXPECT_TRUE(std::ranges::all_of(server.port.verdicts, &Record::Verdict::drop));
  EXPECT_EQ(server.engine->statistics().handshakes, 0U);
}

TEST_F(DatagramTest, HeldDatagramsAreBounded) {
  std::ignore = hello();
  std::size_t held = 1;
  for (int i = 0; i < 100; i++) {
    held += client.leave(data()).hold ? 1U : 0U;
  }
  EXPECT_EQ(held, 16U);
  EXPECT_EQ(client.refused(Reason::crowded), 101 - held);
  Host big(psk_trust("a", kSecret), "app=web");
  std::size_t bytes = 0;
  for (int i = 0; i < 16; i++) {
    // The queue copies only the first bytes of a large datagram.
    Packet packet = datagram(ends, std::string(1'000, 'x'));
    const std::size_t length = 60'000;
    packet[2] = static_cast<std::uint8_t>(length >> 8U);
    packet[3] = static_cast<std::uint8_t>(length & 0xffU);
    packet[24] = static_cast<std::uint8_t>((length - 20) >> 8U);
    packet[25] = static_cast<std::uint8_t>((length - 20) & 0xffU);
    const Answer answer = big.give(packet, length, true, End::kNumber | abi::kFresh);
    bytes += answer.hold ? length : 0;
  }
  EXPECT_GT(bytes, 60'000U);
  EXPECT_LE(bytes, std::size_t{128} << 10U);
}

TEST_F(DatagramTest, AFloodOfHellosCostsTheTableAndNoMore) {
  Host small(psk_trust("b", kSecret), "app=web", 64);
  const Packet asked = hello();
  const auto payload = parsed(asked).payload();
  const Packet said(payload.begin(), payload.end());
  for (std::uint32_t i = 0; i < 5'000; i++) {
    wire::Ends from = ends;
    from.source.bytes[2] = static_cast<std::uint8_t>(i >> 8U);
    from.source.bytes[1] = static_cast<std::uint8_t>(i);
    std::ignore = small.take_hello(datagram(from, said), abi::kFresh);
    std::ignore = small.arrive(datagram(from, std::string("x")));
  }
  EXPECT_LE(small.engine->statistics().handshakes, 64U);
  EXPECT_GT(small.engine->statistics().evicted, 4'000U);
  small.pass(11'000);
  EXPECT_EQ(small.engine->statistics().handshakes, 0U) << "unproved ones end in ten seconds";
  EXPECT_TRUE(std::ranges::all_of(small.port.verdicts, [](const Record::Verdict& verdict) {
    return verdict.drop;
  })) << "the held datagrams";
}

TEST_F(DatagramTest, AThousandFlowsOfOneSocket) {
  Host many(psk_trust("a", kSecret), "app=web", 4'096);
  Host all(psk_trust("b", kSecret), "app=web", 16'384);
  for (std::uint16_t port = 1; port <= 1'000; port++) {
    const wire::Ends flow{ends.source, ends.destination, 40'000, port};
    ASSERT_TRUE(many.leave(datagram(flow, std::string("x")), abi::kFresh).hold);
    const auto reply = all.take_hello(many.port.take(), abi::kFresh);
    ASSERT_TRUE(reply);
    EXPECT_TRUE(many.arrive(*reply, abi::kReplies).drop);
    EXPECT_TRUE(all.arrive(many.port.take()).drop);
    EXPECT_TRUE(many.arrive(all.port.take(), abi::kReplies).drop);
  }
  EXPECT_EQ(many.port.verdicts.size(), 1'000U);
  EXPECT_EQ(all.book.size(), 1U);
}

TEST(HeldDatagrams, AWorkloadWithManyFlowsLeavesOthersTheirs) {
  constexpr policy::Number kBusy = 78;
  Host client(psk_trust("a", kSecret), "app=web", 16'384);
  Host server(psk_trust("b", kSecret), "app=web", 16'384);
  client.engine->add_local(std::make_shared<const LocalIdentity>(kBusy, label_set("app=web")));
  const auto flow = [](std::uint16_t port, std::uint16_t to = 53) {
    return datagram({address("10.0.0.1"), address("10.0.0.2"), port, to}, std::string("query"));
  };
  // 16 datagrams in each of thousands of flows.
  std::size_t held = 0;
  for (std::uint16_t port = 0; port < 4'000; port++) {
    for (int i = 0; i < 16; i++) {
      held += client.give(flow(port), true, abi::kFresh, kBusy).hold ? 1U : 0U;
    }
  }
  EXPECT_EQ(held, 1'024U);
  client.port.sent.clear();
  for (std::uint16_t number = 0; number < 60; number++) {
    const auto port = static_cast<std::uint16_t>(50'000 + number);
    ASSERT_TRUE(client.leave(flow(port), abi::kFresh).hold) << number;
    const auto reply = server.take_hello(client.port.take(), abi::kFresh);
    ASSERT_TRUE(reply);
    client.port.verdicts.clear();
    EXPECT_TRUE(client.arrive(*reply, abi::kReplies).drop);
    ASSERT_EQ(client.port.verdicts.size(), 1U) << "the held datagram is released";
    EXPECT_FALSE(client.port.verdicts.front().drop);
    client.port.sent.clear();
  }
  const Crowding crowding =
      client.engine->statistics().crowding.at(static_cast<std::size_t>(Bounded::held_datagrams));
  EXPECT_GT(crowding.given_up, 0U);
  EXPECT_EQ(crowding.holder.owner, Owner::workload(kBusy));
}

}  // namespace
}  // namespace trireme::handshake
