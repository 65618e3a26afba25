// SPDX-License-Identifier: Apache-2.0
// Credentials that are not trusted, for each reason; rotation and revocation while handshakes are
// in progress. Over TCP and UDP.
#include "handshake_talk.hpp"
#include "trireme/wire/token.hpp"

namespace trireme::handshake {
namespace {

using std::chrono::hours;

constexpr auto kDay = hours(24);

Fleet::Time day_from_now(int days) {
  return std::chrono::system_clock::now() + days * kDay;
}

struct PeerTrust : testing::TestWithParam<Over> {
  using TrustOf = std::shared_ptr<const credentials::Trust>;

  /// The server's reason for refusing a client with that [trust], whose clock says `their_time`.
  static Reason server_on(const TrustOf& theirs, const TrustOf& ours,
                          Fleet::Time their_time = std::chrono::system_clock::now()) {
    Host client(theirs, "app=web");
    client.now.wall = their_time;
    Host server(ours, "app=web");
    Talk talk(GetParam(), client, server);
    EXPECT_FALSE(talk.take_hello(talk.ask())) << "at once";
    EXPECT_EQ(server.events.size(), 1U);
    EXPECT_EQ(server.refused(server.last()), 1U);
    return server.last();
  }
  /// The client's reason for refusing a server with that [trust], which itself trusts the client,
  /// and whose clock says `their_time`.
  static Reason client_on(const TrustOf& ours, const TrustOf& theirs,
                          Fleet::Time their_time = std::chrono::system_clock::now()) {
    Host client(ours, "app=web");
    Host server(theirs, "app=web");
    server.now.wall = their_time;
    Talk talk(GetParam(), client, server);
    EXPECT_TRUE(talk.take_hello(talk.ask()));
    EXPECT_FALSE(talk.verify(talk.reply()).authorizes());
    EXPECT_TRUE(talk.proof().empty());
    EXPECT_EQ(client.refused(client.last()), 1U);
    return client.last();
  }
};
/// HELLO with other labels.
Packet with_labels(const Packet& hello, const std::string& labels) {
  const auto bytes = std::span(reinterpret_cast<const std::uint8_t*>(labels.data()), labels.size());
  Packet said(2'000);
  if (PeerTrust::GetParam() == Over::udp) {
    const wire::Datagram asked = parsed(hello);
    auto token = wire::read_datagram_token(wire::Message::hello, asked.payload()).value();
    token.labels = bytes;
    said.resize(wire::write_datagram_token(token, said));
    EXPECT_FALSE(said.empty());
    return datagram(asked.ends(), said);
  }
  const wire::Segment asked = segment(hello);
  auto token = wire::read_token(wire::Message::hello, asked.payload()).value();
  token.labels = bytes;
  said.resize(wire::write_token(token, said));
  EXPECT_FALSE(said.empty());
  return Draft{.ends = asked.ends(), .sequence = asked.sequence(), .data = said}.bytes();
}

INSTANTIATE_TEST_SUITE_P(Carriers, PeerTrust, kBothCarriers,
                         [](const auto& over) { return name_of(over.param); });

TEST_P(PeerTrust, ACertificateOfAnotherTrustDomainIsUntrusted) {
  Fleet ours;
  Fleet theirs("others");
  Fleet namesake;  // of the same name, with another key
  EXPECT_EQ(server_on(theirs.trust("a"), ours.trust("b")), Reason::untrusted);
  EXPECT_EQ(server_on(namesake.trust("a"), ours.trust("b")), Reason::untrusted);
  EXPECT_EQ(client_on(ours.trust("a"), theirs.trust(theirs.issue("b"), {}, {&ours})),
            Reason::untrusted);
}

TEST_P(PeerTrust, AnotherSecretIsUntrusted) {
  EXPECT_EQ(server_on(psk_trust("a", kNextSecret), psk_trust("b", kSecret)), Reason::untrusted);
}

TEST_P(PeerTrust, AnotherKindOfCredentialIsUnknown) {
  Fleet fleet;
  EXPECT_EQ(server_on(psk_trust("a", kSecret), fleet.trust("b")), Reason::unknown_type);
  EXPECT_EQ(server_on(fleet.trust("a"), psk_trust("b", kSecret)), Reason::unknown_type);
}

TEST_P(PeerTrust, ACertificateIsBelievedInItsTimeOnly) {
  Fleet fleet;
  const auto of = [&](int from, unsigned days) {
    return fleet.trust(fleet.issue("a", {}, day_from_now(from), days), {}, {}, day_from_now(from));
  };
  for (const int from : {-40, 10}) {  // expired, and not valid yet: by our clock, not by theirs
    EXPECT_EQ(server_on(of(from, 30), fleet.trust("b"), day_from_now(from)), Reason::expired);
    EXPECT_EQ(client_on(fleet.trust(fleet.issue("b", {}, day_from_now(-41))), of(from, 30),
                        day_from_now(from)),
              Reason::expired);
  }
}

TEST_P(PeerTrust, ACertificateThatIsRememberedIsBelievedInItsTimeOnly) {
  Fleet fleet;
  Host client(fleet.trust(fleet.issue("a", {}, std::chrono::system_clock::now(), 1)), "app=web");
  Host server(fleet.trust("b"), "app=web");
  ASSERT_TRUE(Talk(GetParam(), client, server, 0).connects());
  server.now.wall += 3 * kDay;
  Talk talk(GetParam(), client, server, 1);
  EXPECT_FALSE(talk.take_hello(talk.ask()));
  EXPECT_EQ(server.last(), Reason::expired);
}

TEST_P(PeerTrust, ACertificateThatExpiresBetweenHelloAndProofIsRefused) {
  Fleet fleet;
  Host client(fleet.trust(fleet.issue("a", {}, std::chrono::system_clock::now(), 1)), "app=web");
  Host server(fleet.trust("b"), "app=web");
  Talk talk(GetParam(), client, server);
  ASSERT_TRUE(talk.exchange());
  server.now.wall += 3 * kDay;
  EXPECT_FALSE(talk.prove(talk.proof()));
  EXPECT_EQ(server.last(), Reason::expired);
}

TEST_P(PeerTrust, ARevokedCertificateIsRefused) {
  Fleet fleet;
  const auto bad = fleet.issue("a");
  EXPECT_EQ(server_on(fleet.trust(bad), fleet.trust(fleet.issue("b"), {bad.certificate})),
            Reason::revoked);
  EXPECT_EQ(client_on(fleet.trust(fleet.issue("b"), {bad.certificate}), fleet.trust(bad)),
            Reason::revoked);
}

TEST_P(PeerTrust, LabelsThatACertificateDoesNotVouchForAreRefused) {
  Fleet fleet;
  const auto limited = fleet.trust(fleet.issue("a", "app=db*"));
  // An honest host sends no HELLO.
  Host honest(limited, "app=web");
  EXPECT_TRUE(Talk(GetParam(), honest, honest).ask().empty());
  EXPECT_EQ(honest.last(), Reason::label_constraint);
  EXPECT_EQ(client_on(fleet.trust("b"), limited), Reason::label_constraint);
  // A dishonest one changes its HELLO.
  Host client(limited, "app=db-1");
  Host server(fleet.trust("b"), "app=web");
  Talk talk(GetParam(), client, server);
  const std::string labels = label_set("app=web").encode();
  ASSERT_FALSE(talk.take_hello(with_labels(talk.ask(), labels)));
  EXPECT_EQ(server.last(), Reason::label_constraint);
}

TEST_P(PeerTrust, WithoutACredentialNobodyElsewhereIsAsked) {
  Host client(credentials::Trust::local().value(), "app=web");
  EXPECT_TRUE(Talk(GetParam(), client, client).ask().empty());
  EXPECT_EQ(client.last(), Reason::no_credential);
}

TEST_P(PeerTrust, BothSecretsCountDuringARotation) {
  const std::string both = std::string(kSecret) + kNextSecret;
  const std::string swapped = std::string(kNextSecret) + kSecret;
  const std::vector<std::string> steps = {kSecret, both, swapped, kNextSecret};
  Host client(psk_trust("a", kSecret), "app=web");
  Host server(psk_trust("b", kSecret), "app=web");
  std::uint16_t number = 0;
  // The hosts rotate one step at a time, one after the other. Each step falls between every two
  // packets of a handshake.
  for (std::size_t step = 1; step < steps.size(); step++) {
    for (const bool client_first : {true, false}) {
      for (int when = 0; when < 4; when++) {
        Host one(psk_trust("a", steps[step - 1]), "app=web");
        Host two(psk_trust("b", steps[step - 1]), "app=web");
        Host& changed = client_first ? one : two;
        const auto change = [&](int now) {
          if (now == when) {
            changed.engine->set_trust(psk_trust(client_first ? "a" : "b", steps[step]));
          }
        };
        Talk talk(GetParam(), one, two, number++);
        change(0);
        const Packet asked = talk.ask();
        change(1);
        ASSERT_TRUE(talk.take_hello(asked)) << step << client_first << when;
        const Packet replied = talk.reply();
        change(2);
        ASSERT_TRUE(talk.verify(replied).authorizes())
            << step << client_first << when << text(one.last());
        change(3);
        ASSERT_TRUE(talk.prove(talk.proof())) << step << client_first << when << text(two.last());
      }
    }
  }
}

TEST_P(PeerTrust, NothingOfAnOldSecretCountsOnceItIsTakenAway) {
  Host client(psk_trust("a", kSecret), "app=web");
  Host server(psk_trust("b", kSecret), "app=web");
  Talk talk(GetParam(), client, server);
  ASSERT_TRUE(talk.exchange());
  server.engine->set_trust(psk_trust("b", kNextSecret));
  EXPECT_FALSE(talk.prove(talk.proof()));
  EXPECT_EQ(server.last(), Reason::untrusted);
  Talk again(GetParam(), client, server, 1);
  EXPECT_FALSE(again.take_hello(again.ask()));
  EXPECT_EQ(server.last(), Reason::untrusted);
}

TEST_P(PeerTrust, ARotationInTheMiddleOfAHandshakeDoesNotChangeItsHello) {
  Fleet fleet;
  Host client(fleet.trust("a"), "app=web");
  Host server(fleet.trust("b"), "app=web");
  Talk talk(GetParam(), client, server);
  const Packet hello = talk.ask();
  ASSERT_TRUE(talk.take_hello(hello));
  client.engine->set_trust(fleet.trust("a"));  // a new certificate and key
  EXPECT_EQ(talk.ask_again(), hello) << "a repeated HELLO does not change";
  ASSERT_TRUE(talk.verify(talk.reply()).authorizes()) << text(client.last());
  server.engine->set_trust(fleet.trust("b"));
  EXPECT_TRUE(talk.prove(talk.proof()));
}

TEST_P(PeerTrust, AHostIsKnownAgainAfterOurOwnKeyHasChanged) {
  Fleet fleet;
  Host client(fleet.trust("a"), "app=web");
  Host server(fleet.trust("b"), "app=web");
  ASSERT_TRUE(Talk(GetParam(), client, server, 0).connects());
  server.engine->set_trust(fleet.trust("b"));
  client.engine->set_trust(fleet.trust("a"));
  EXPECT_TRUE(Talk(GetParam(), client, server, 1).connects());
  EXPECT_TRUE(Talk(GetParam(), client, server, 2).connects());
  EXPECT_TRUE(Talk(GetParam(), server, client, 3).connects()) << "the other way round";
}

TEST_P(PeerTrust, AHostRevokedInTheMiddleOfAHandshakeIsRefused) {
  Fleet fleet;
  const auto bad = fleet.issue("a");
  const auto own = fleet.issue("b");
  Host client(fleet.trust(bad), "app=web");
  Host server(fleet.trust(own), "app=web");
  Talk talk(GetParam(), client, server);
  ASSERT_TRUE(talk.exchange());
  server.engine->set_trust(fleet.trust(own, {bad.certificate}));
  EXPECT_FALSE(talk.prove(talk.proof()));
  EXPECT_EQ(server.last(), Reason::revoked);
  Host other(fleet.trust(own), "app=web");
  Host impostor(fleet.trust(bad), "app=web");
  Talk asked(GetParam(), other, impostor);
  const Packet hello = asked.ask();
  other.engine->set_trust(fleet.trust(own, {bad.certificate}));
  ASSERT_TRUE(asked.take_hello(hello));
  EXPECT_FALSE(asked.verify(asked.reply()).authorizes());
  EXPECT_EQ(other.last(), Reason::revoked);
}

TEST_P(PeerTrust, AnUnknownCredentialIsVerifiedOncePerHost) {
  Fleet fleet;
  Host client(fleet.trust("a"), "app=web");
  Host server(fleet.trust("b"), "app=web");
  for (std::uint16_t number = 0; number < 50; number++) {
    ASSERT_TRUE(Talk(GetParam(), client, server, number).connects());
  }
  EXPECT_EQ(client.engine->statistics().verifications, 1U);
  EXPECT_EQ(server.engine->statistics().verifications, 1U);
}

TEST_P(PeerTrust, AHostWithMoreLabelSetsThanAreRememberedIsServedAllTheSame) {
  Host server(psk_trust("b", kSecret), "app=web");
  policy::Policy any;
  any.baseline = policy::Baseline::any_common_label;
  server.set_policy(any);
  Host client(psk_trust("a", kSecret), "app=web");
  client.set_policy(any);
  for (int job = 0; job < 5'000; job++) {
    client.engine->add_local(std::make_shared<const LocalIdentity>(
        End::kNumber, label_set("app=web,job=" + std::to_string(job))));
    ASSERT_TRUE(Talk(GetParam(), client, server, static_cast<std::uint16_t>(job)).connects())
        << job << text(server.last());
  }
}

}  // namespace
}  // namespace trireme::handshake
