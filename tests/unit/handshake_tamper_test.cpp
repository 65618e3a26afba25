// Whoever holds no credential changes, repeats, mixes or cuts what two hosts say: nothing is
// authorised by it.
#include <algorithm>
#include <span>

#include "handshake_support.hpp"
#include "trireme/wire/token.hpp"

namespace trireme::handshake {
namespace {

/// Both kinds of credentials.
struct Tampering : testing::TestWithParam<bool> {
  Fleet fleet;
  End client{GetParam() ? fleet.trust("client") : psk_trust("client", kSecret), "app=web",
             "10.0.0.0/8", 8192};
  End server{GetParam() ? fleet.trust("server") : psk_trust("server", kSecret), "app=web",
             "10.0.0.0/8", 8192};

  /// From one end to the other of the packet's data, bit by bit; certificates are verified for
  /// each, so only some of their bits in a short run.
  static std::size_t step() { return GetParam() ? static_cast<std::size_t>(cases(13, 1)) : 1; }
  /// Time for the budget of verifications.
  void rest() {
    for (End* end : {&client, &server}) {
      end->pass_time(std::chrono::milliseconds(300));
    }
  }
};

TEST_P(Tampering, AFlippedBitOfHelloAuthorisesNothing) {
  const std::size_t bits = segment(exchange(client, server, Connection{}).hello).payload_size() * 8;
  std::uint16_t number = 0;
  for (std::size_t bit = 0; bit < bits; bit += step()) {
    rest();
    const Connection connection = Connection::number(number++);
    const Outcome asked = client.out(connection.syn());
    ASSERT_TRUE(asked.passes());
    const Outcome heard =
        server.in(flipped(asked.packet, segment(asked.packet).header_size() * 8 + bit));
    ASSERT_FALSE(heard.authorises()) << bit;
    if (!heard.passes()) {
      continue;
    }
    ASSERT_EQ(segment(heard.packet).payload_size(), 0U) << bit;
    const Outcome replied = server.out(connection.syn_ack());
    ASSERT_FALSE(replied.authorises()) << bit;
    const Outcome verified = client.in(replied.packet);
    ASSERT_FALSE(verified.authorises()) << bit;
    ASSERT_FALSE(verified.proof) << bit;
    ASSERT_TRUE(is_kept_back(server.in(connection.data()))) << bit;
  }
}

TEST_P(Tampering, LabelsThatWereChangedOnTheWayAuthoriseNothing) {
  policy::Policy policy;  // which allows the changed ones as well
  policy::Rule rule;
  rule.from.emplace_back(policy::Selector::parse("app=wdb").value());
  rule.to.emplace_back(policy::Selector::parse("app=web").value());
  policy.rules.push_back(rule);
  server.set_policy(policy);
  const Connection connection;
  const Packet asked = client.out(connection.syn()).packet;
  const std::string last = "eb\n";
  ASSERT_TRUE(std::ranges::equal(last, std::span(asked).last(last.size())));
  const Outcome heard = server.in(flipped(asked, (asked.size() - last.size()) * 8));
  ASSERT_TRUE(heard.passes()) << "nothing is proved yet";
  const Outcome verified = client.in(server.out(connection.syn_ack()).packet);
  EXPECT_TRUE(verified.drop);
  EXPECT_FALSE(verified.proof);
  EXPECT_EQ(client.last(), Reason::forged_reply);
}

TEST_P(Tampering, AFlippedBitOfReplyAuthorisesNothing) {
  const std::size_t bits = segment(exchange(client, server, Connection{}).reply).payload_size() * 8;
  std::uint16_t number = 0;
  for (std::size_t bit = 0; bit < bits; bit += step()) {
    rest();
    const Connection connection = Connection::number(number++);
    const Outcome asked = client.out(connection.syn());
    ASSERT_TRUE(server.in(asked.packet).passes());
    const Outcome replied = server.out(connection.syn_ack());
    const Outcome verified =
        client.in(flipped(replied.packet, segment(replied.packet).header_size() * 8 + bit));
    ASSERT_FALSE(verified.authorises()) << bit;
    ASSERT_FALSE(verified.proof) << bit;
    // What could be noise rather than the server's word leaves the handshake to the server.
    if (verified.drop && client.last() == Reason::forged_reply) {
      ASSERT_TRUE(client.in(replied.packet).authorises()) << bit;
    }
  }
  EXPECT_GT(client.refused(Reason::forged_reply), 200U / step());
}

TEST_P(Tampering, AFlippedBitOfProofAuthorisesNothing) {
  const Exchange said = exchange(client, server, Connection{});
  const auto from =
      static_cast<std::size_t>(segment(said.proof).proof()->data() - said.proof.data()) - 4;
  for (std::size_t bit = from * 8; bit < (from + 20) * 8; bit++) {
    const Packet changed = flipped(said.proof, bit);
    const auto parsed = wire::Segment::parse(changed, changed.size());
    ASSERT_FALSE(server.in(changed).authorises()) << bit << (parsed ? "" : " malformed");
  }
  EXPECT_EQ(server.refused(Reason::forged_proof), 128U)
      << "the tag's bits; the others make it another option, or none";
  EXPECT_TRUE(server.in(said.proof).authorises()) << "the true one still counts";
}

TEST_P(Tampering, TokensCutShortAreMalformed) {
  const Exchange said = exchange(client, server, Connection{});
  for (std::size_t cut = 1; cut < segment(said.hello).payload_size(); cut += cut < 60 ? 1 : 7) {
    Draft draft{.ends = Connection::number(1).ends, .sequence = 1000};
    const auto payload = segment(said.hello).payload();
    draft.data.assign(payload.begin(), payload.end() - static_cast<std::ptrdiff_t>(cut));
    const Outcome heard = server.in(draft.bytes());
    ASSERT_EQ(heard.ruling, Ruling::refuse) << cut;
    ASSERT_EQ(segment(heard.packet).payload_size(), 0U)
        << "what is refused is answered as the SYN that it was";
    ASSERT_EQ(server.last(), Reason::malformed_token) << cut;
  }
  for (std::size_t cut = 1; cut < segment(said.reply).payload_size() - wire::kMagic.size();
       cut += cut < 60 ? 1 : 7) {
    const Connection connection = Connection::number(static_cast<std::uint16_t>(1 + cut));
    ASSERT_TRUE(client.out(connection.syn()).passes());
    Draft draft{.ends = connection.back(),
                .flags = wire::kSyn | wire::kAck,
                .sequence = 5000,
                .acknowledgement = 1001};
    const auto payload = segment(said.reply).payload();
    draft.data.assign(payload.begin(), payload.end() - static_cast<std::ptrdiff_t>(cut));
    ASSERT_FALSE(client.in(draft.bytes()).authorises()) << cut;
    ASSERT_EQ(client.last(), Reason::malformed_token) << cut;
  }
  // Without its magic a REPLY is somebody else's data: a peer that proves nothing.
  const Connection connection = Connection::number(5'000);
  ASSERT_TRUE(client.out(connection.syn()).passes());
  EXPECT_FALSE(client.in(connection.syn_ack()).authorises());
  EXPECT_EQ(client.last(), Reason::no_proof);
}

TEST_P(Tampering, MessagesOfAnotherFlowAuthoriseNothing) {
  const Exchange before = exchange(client, server, Connection{});
  ASSERT_TRUE(server.in(before.proof).authorises());
  const Connection connection = Connection::number(7);
  const auto moved = [&](const Packet& packet,
                         bool to_server) {  // with the addresses and ports of another flow
    Packet changed = packet;
    changed.at(to_server ? 20 : 22) = static_cast<std::uint8_t>(connection.ends.source_port >> 8U);
    changed.at(to_server ? 21 : 23) = static_cast<std::uint8_t>(connection.ends.source_port);
    return changed;
  };
  // An attacker without a credential repeats the client's part: REPLY has a new nonce, so that the
  // old PROOF does not fit.
  ASSERT_TRUE(server.in(moved(before.hello, true)).passes()) << "HELLO alone authorises nothing";
  const Outcome replied = server.out(connection.syn_ack());
  ASSERT_TRUE(replied.passes());
  EXPECT_NE(replied.packet, moved(before.reply, false));
  EXPECT_TRUE(server.in(moved(before.proof, true)).drop);
  EXPECT_EQ(server.last(), Reason::forged_proof);
  EXPECT_TRUE(is_kept_back(server.in(connection.data())));
  // And the server's.
  ASSERT_TRUE(client.out(connection.syn()).passes());
  const Outcome verified = client.in(moved(before.reply, false));
  EXPECT_TRUE(verified.drop);
  EXPECT_FALSE(verified.proof);
  EXPECT_EQ(client.last(), Reason::forged_reply);
  // PROOF where nobody said HELLO, and where nothing was answered yet.
  EXPECT_EQ(server.in(moved(before.proof, true), 0).authorises(), false);
  const Connection fresh = Connection::number(8);
  Packet proof = before.proof;
  proof.at(20) = static_cast<std::uint8_t>(fresh.ends.source_port >> 8U);
  proof.at(21) = static_cast<std::uint8_t>(fresh.ends.source_port);
  EXPECT_EQ(server.in(proof).ruling, Ruling::refuse);
  EXPECT_EQ(server.last(), Reason::unknown_handshake);
  ASSERT_TRUE(server.in(client.out(fresh.syn()).packet).passes());
  EXPECT_EQ(server.in(proof).ruling, Ruling::refuse);
}

TEST_P(Tampering, WhatComesAfterTheTimeOfAHandshakeAuthorisesNothing) {
  const Exchange said = exchange(client, server, Connection{});
  server.pass_time(std::chrono::minutes(3));
  client.pass_time(std::chrono::minutes(3));
  EXPECT_FALSE(server.in(said.proof).authorises());
  EXPECT_EQ(server.last(), Reason::unknown_handshake);
  const Connection late = Connection::number(1);
  const Exchange other = exchange(client, server, late);
  ASSERT_TRUE(client.out(Connection::number(2).syn()).passes());
  client.pass_time(std::chrono::minutes(3));
  EXPECT_FALSE(client.in(other.reply).authorises());
  EXPECT_EQ(client.last(), Reason::unknown_handshake);
}

TEST_P(Tampering, TheReplyToOneHostIsNoReplyToAnother) {
  End other(GetParam() ? fleet.trust("other") : psk_trust("other", kSecret), "app=web");
  const Connection connection;
  const Exchange said = exchange(client, server, connection);
  ASSERT_TRUE(other.out(connection.syn()).passes());
  const Outcome spliced = other.in(said.reply);
  EXPECT_TRUE(spliced.drop);
  EXPECT_FALSE(spliced.proof);
  EXPECT_EQ(other.last(), Reason::forged_reply);
  // Two handshakes of one host, their REPLY messages exchanged.
  const Connection first = Connection::number(1);
  const Connection second = Connection::number(2);
  const auto reply_to = [&](const Connection& each) {
    EXPECT_TRUE(server.in(client.out(each.syn()).packet).passes());
    return server.out(each.syn_ack()).packet;
  };
  const Packet to_first = reply_to(first);
  const Packet to_second = reply_to(second);
  Draft draft{.ends = first.back(),
              .flags = wire::kSyn | wire::kAck,
              .sequence = 5000,
              .acknowledgement = 1001};
  const auto payload = segment(to_second).payload();
  draft.data.assign(payload.begin(), payload.end());
  EXPECT_TRUE(client.in(draft.bytes()).drop);
  EXPECT_EQ(client.last(), Reason::forged_reply);
  EXPECT_TRUE(client.in(to_first).authorises()) << "the true one still counts";
}

TEST_P(Tampering, TheClientsOwnMessageSentBackIsNoReply) {
  const Connection connection;
  const Packet hello = client.out(connection.syn()).packet;
  Draft draft{.ends = connection.back(),
              .flags = wire::kSyn | wire::kAck,
              .sequence = 5000,
              .acknowledgement = 1001};
  const auto payload = segment(hello).payload();
  draft.data.assign(payload.begin(), payload.end());
  EXPECT_FALSE(client.in(draft.bytes()).authorises());
  EXPECT_EQ(client.last(), Reason::malformed_token);
}

INSTANTIATE_TEST_SUITE_P(Credentials, Tampering, testing::Bool(),
                         [](const auto& kind) { return kind.param ? "Certificate" : "Psk"; });

}  // namespace
}  // namespace trireme::handshake
