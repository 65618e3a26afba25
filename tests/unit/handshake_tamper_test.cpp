// SPDX-License-Identifier: Apache-2.0
// An attacker without a credential changes, repeats, mixes or truncates messages of two hosts.
// Nothing is authorized by it, over TCP or UDP.
#include <algorithm>
#include <span>

#include "handshake_talk.hpp"
#include "trireme/wire/token.hpp"

namespace trireme::handshake {
namespace {

enum class Credential : std::uint8_t { psk, certificate };

struct Tampering : testing::TestWithParam<std::tuple<Over, Credential>> {
  [[nodiscard]] static Over over() { return std::get<Over>(GetParam()); }
  [[nodiscard]] static bool has_certificates() {
    return std::get<Credential>(GetParam()) == Credential::certificate;
  }
  std::shared_ptr<const credentials::Trust> trust(const std::string& host) {
    return has_certificates() ? fleet.trust(host) : psk_trust(host, kSecret);
  }

  Fleet fleet;
  Host client{trust("client"), "app=web", 8192};
  Host server{trust("server"), "app=web", 8192};
  std::uint16_t number = 0;

  Talk next() { return {over(), client, server, number++}; }
  /// The step between flipped bits of a token. A certificate is verified for each of them, so a
  /// short run flips only some of its bits.
  static std::size_t step() {
    return has_certificates() ? static_cast<std::size_t>(cases(13, 1)) : 1;
  }
  /// Lets time pass, for the budget of verifications. Held datagrams are dropped now and then,
  /// because a client's host holds only a thousand of them.
  void rest() {
    constexpr std::uint16_t kOften = 512;
    for (End* end : {&client, &server}) {
      end->pass_time(std::chrono::milliseconds(300));
      if (number % kOften == 0) {
        end->engine->forget_point(kHome);
      }
    }
  }
};

TEST_P(Tampering, WithoutAnyBothEndsAreAuthorized) {
  EXPECT_TRUE(next().connects()) << text(client.last()) << text(server.last());
  Talk talk = next();
  talk.use_ipv6();
  EXPECT_TRUE(talk.connects()) << text(client.last()) << text(server.last());
}

TEST_P(Tampering, AFlippedBitOfHelloAuthorizesNothing) {
  Talk first = next();
  const std::size_t bits = first.bits(first.ask());
  ASSERT_GT(bits, 300U);
  for (std::size_t bit = 0; bit < bits; bit += step()) {
    rest();
    Talk talk = next();
    const Packet asked = talk.ask();
    ASSERT_FALSE(asked.empty());
    if (!talk.take_hello(talk.flipped(asked, bit))) {
      continue;
    }
    ASSERT_FALSE(talk.verify(talk.reply()).authorizes()) << bit;
    ASSERT_TRUE(talk.proof().empty()) << bit;
    ASSERT_FALSE(talk.server_receives().authorizes()) << bit;
  }
}

TEST_P(Tampering, LabelsThatWereChangedOnTheWayAuthorizeNothing) {
  policy::Policy policy;  // which allows the changed ones as well
  policy::Rule rule;
  rule.from.emplace_back(policy::Selector::parse("app=wdb").value());
  rule.to.emplace_back(policy::Selector::parse("app=web").value());
  policy.rules.push_back(rule);
  server.set_policy(policy);
  Talk talk = next();
  Packet asked = talk.ask();
  const std::string said = "web\n";
  const auto labels = std::ranges::find_end(asked, said);
  ASSERT_EQ(labels.size(), said.size());
  labels[1] ^= 1;
  ASSERT_TRUE(talk.take_hello(asked)) << "nothing is proved yet";
  EXPECT_TRUE(talk.verify(talk.reply()).is_kept_back);
  EXPECT_TRUE(talk.proof().empty());
  EXPECT_EQ(client.last(), Reason::forged_reply);
}

TEST_P(Tampering, AFlippedBitOfReplyAuthorizesNothing) {
  Talk first = next();
  ASSERT_TRUE(first.take_hello(first.ask()));
  const std::size_t bits = first.bits(first.reply());
  ASSERT_GT(bits, 300U);
  for (std::size_t bit = 0; bit < bits; bit += step()) {
    rest();
    Talk talk = next();
    ASSERT_TRUE(talk.take_hello(talk.ask()));
    const Packet replied = talk.reply();
    ASSERT_FALSE(talk.verify(talk.flipped(replied, bit)).authorizes()) << bit;
    ASSERT_TRUE(talk.proof().empty()) << bit;
    // A REPLY that may not be from the server does not end the handshake.
    if (client.last() == Reason::forged_reply) {
      ASSERT_TRUE(talk.verify(replied).authorizes()) << bit;
    }
  }
  EXPECT_GT(client.refused(Reason::forged_reply), 200U / step());
}

TEST_P(Tampering, OnlyTheServerMakesAClientsHostAskTheKernel) {
  int asked = 0;
  client.translate = [&asked](const wire::Ends& ends) {
    asked++;
    return Translation{ends, ends};
  };
  client.port.translate = client.translate;
  Talk talk = next();
  ASSERT_TRUE(talk.take_hello(talk.ask()));
  const Packet reply = talk.reply();
  for (std::size_t bit = talk.bits(reply) - 64; bit < talk.bits(reply); bit++) {
    ASSERT_FALSE(talk.verify(talk.flipped(reply, bit)).authorizes());
  }
  EXPECT_EQ(asked, 0) << "each question costs a lookup, or a dump of conntrack";
  EXPECT_TRUE(talk.verify(reply).authorizes());
  EXPECT_EQ(asked, 1);
}

TEST_P(Tampering, AFlippedBitOfProofAuthorizesNothing) {
  Talk talk = next();
  ASSERT_TRUE(talk.exchange());
  const Packet proof = talk.proof();
  for (std::size_t bit = 0; bit < talk.bits(proof); bit++) {
    ASSERT_FALSE(talk.prove(talk.flipped(proof, bit))) << bit;
  }
  EXPECT_EQ(server.refused(Reason::forged_proof), 128U) << "the tag's bits";
  EXPECT_TRUE(talk.prove(proof)) << "the valid one is still accepted";
}

TEST_P(Tampering, MessagesOfAnotherFlowAuthorizeNothing) {
  Talk before = next();
  const Packet hello = before.ask();
  ASSERT_TRUE(before.take_hello(hello));
  const Packet reply = before.reply();
  ASSERT_TRUE(before.verify(reply).authorizes());
  const Packet proof = before.proof();
  ASSERT_TRUE(before.prove(proof));
  // An attacker without a credential replays the client's messages. REPLY has a new nonce, so the
  // old PROOF is not valid.
  Talk talk = next();
  ASSERT_TRUE(talk.take_hello(talk.moved(hello, true)))
      << "HELLO alone does not authorize the flow";
  const Packet replied = talk.reply();
  ASSERT_FALSE(replied.empty());
  EXPECT_NE(replied, talk.moved(reply, false));
  EXPECT_FALSE(talk.prove(talk.moved(proof, true)));
  EXPECT_EQ(server.last(), Reason::forged_proof);
  EXPECT_TRUE(talk.server_receives().is_kept_back);
  // The same with the server's messages.
  ASSERT_FALSE(talk.ask().empty());
  EXPECT_TRUE(talk.verify(talk.moved(reply, false)).is_kept_back);
  EXPECT_TRUE(talk.proof().empty());
  EXPECT_EQ(client.last(), Reason::forged_reply);
  // PROOF without HELLO, and PROOF before REPLY.
  Talk fresh = next();
  EXPECT_FALSE(fresh.prove(fresh.moved(proof, true)));
  EXPECT_EQ(server.refused(Reason::unknown_handshake), 1U);
  ASSERT_TRUE(fresh.take_hello(fresh.ask()));
  EXPECT_FALSE(fresh.prove(fresh.moved(proof, true)));
}

TEST_P(Tampering, WhatComesAfterTheTimeOfAHandshakeAuthorizesNothing) {
  Talk talk = next();
  ASSERT_TRUE(talk.exchange());
  const Packet proof = talk.proof();
  Talk other = next();
  ASSERT_TRUE(other.take_hello(other.ask()));
  const Packet reply = other.reply();
  for (int i = 0; i < 60; i++) {
    client.pass(3'000);
    server.pass(3'000);
  }
  EXPECT_FALSE(talk.prove(proof));
  EXPECT_EQ(server.refused(Reason::unknown_handshake), 1U);
  EXPECT_FALSE(other.verify(reply).authorizes());
  EXPECT_TRUE(other.proof().empty());
}

TEST_P(Tampering, TheReplyToOneHostIsNoReplyToAnother) {
  Host other(trust("other"), "app=web");
  Talk talk = next();
  ASSERT_TRUE(talk.take_hello(talk.ask()));
  Talk spliced(over(), other, server, 0);
  ASSERT_FALSE(spliced.ask().empty());
  EXPECT_TRUE(spliced.verify(talk.reply()).is_kept_back);
  EXPECT_TRUE(spliced.proof().empty());
  EXPECT_EQ(other.last(), Reason::forged_reply);
  // Two handshakes of one host, their REPLY messages exchanged.
  Talk first = next();
  Talk second = next();
  ASSERT_TRUE(first.take_hello(first.ask()));
  const Packet to_first = first.reply();
  ASSERT_TRUE(second.take_hello(second.ask()));
  const Packet to_second = second.reply();
  EXPECT_TRUE(first.verify(first.reply_with(second.token(to_second))).is_kept_back);
  EXPECT_EQ(client.last(), Reason::forged_reply);
  EXPECT_TRUE(first.verify(to_first).authorizes()) << "the valid one is still accepted";
}

TEST_P(Tampering, TheClientsOwnMessageSentBackIsNoReply) {
  Talk talk = next();
  const Packet hello = talk.ask();
  EXPECT_FALSE(talk.verify(talk.reply_with(talk.token(hello))).authorizes());
  EXPECT_TRUE(talk.proof().empty());
}

INSTANTIATE_TEST_SUITE_P(
    Carriers, Tampering,
    testing::Combine(kBothCarriers, testing::Values(Credential::psk, Credential::certificate)),
    [](const auto& kind) {
      return name_of(std::get<Over>(kind.param)) +
             (std::get<Credential>(kind.param) == Credential::psk ? "Psk" : "Certificate");
    });

/// Truncated tokens. TCP only: the length of a datagram says how long its token is.
TEST(TokensInSegments, CutShortAreMalformed) {
  End client(psk_trust("client", kSecret), "app=web", "10.0.0.0/8", 8192);
  End server(psk_trust("server", kSecret), "app=web", "10.0.0.0/8", 8192);
  const Exchange said = exchange(client, server, Connection{});
  for (std::size_t cut = 1; cut < segment(said.hello).payload_size(); cut += cut < 60 ? 1 : 7) {
    Draft draft{.ends = Connection::number(1).ends, .sequence = 1000};
    const auto payload = segment(said.hello).payload();
    draft.data.assign(payload.begin(), payload.end() - static_cast<std::ptrdiff_t>(cut));
    const Outcome received = server.in(draft.bytes());
    ASSERT_EQ(received.ruling, abi::Ruling::refuse) << cut;
    ASSERT_EQ(segment(received.packet).payload_size(), 0U)
        << "the refusal answers the SYN without its token";
    ASSERT_EQ(server.last(), Reason::malformed_token) << cut;
  }
  for (std::size_t cut = 1; cut < segment(said.reply).payload_size() - abi::kMagic.size();
       cut += cut < 60 ? 1 : 7) {
    const Connection connection = Connection::number(static_cast<std::uint16_t>(1 + cut));
    ASSERT_TRUE(client.out(connection.syn()).passes());
    Draft draft{.ends = connection.back(),
                .flags = wire::kSyn | wire::kAck,
                .sequence = 5000,
                .acknowledgement = 1001};
    const auto payload = segment(said.reply).payload();
    draft.data.assign(payload.begin(), payload.end() - static_cast<std::ptrdiff_t>(cut));
    ASSERT_FALSE(client.in(draft.bytes()).authorizes()) << cut;
    ASSERT_EQ(client.last(), Reason::malformed_token) << cut;
  }
  // Without its magic, REPLY is ordinary data of a peer that proves nothing.
  const Connection connection = Connection::number(5'000);
  ASSERT_TRUE(client.out(connection.syn()).passes());
  EXPECT_FALSE(client.in(connection.syn_ack()).authorizes());
  EXPECT_EQ(client.last(), Reason::no_proof);
}

}  // namespace
}  // namespace trireme::handshake
