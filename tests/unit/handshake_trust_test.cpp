// Credentials that are not believed, each for its own reason; rotation and revocation while
// handshakes are under way.
#include "handshake_support.hpp"
#include "trireme/wire/token.hpp"

namespace trireme::handshake {
namespace {

using std::chrono::hours;

constexpr auto kDay = hours(24);

Fleet::Time day_from_now(int days) {
  return std::chrono::system_clock::now() + days * kDay;
}

/// What the server thinks of a client with that [trust], whose clock says `their_time`.
Reason server_on(const std::shared_ptr<const credentials::Trust>& theirs,
                 const std::shared_ptr<const credentials::Trust>& ours,
                 Fleet::Time their_time = std::chrono::system_clock::now()) {
  End client(theirs, "app=web");
  client.now.wall = their_time;
  End server(ours, "app=web");
  const Exchange said = exchange(client, server, Connection{});
  EXPECT_EQ(said.heard.ruling, Ruling::refuse) << "at once";
  EXPECT_EQ(segment(said.heard.packet).payload_size(), 0U);
  EXPECT_EQ(server.events.size(), 1U);
  EXPECT_EQ(server.refused(server.last()), 1U);
  return server.last();
}

/// What the client thinks of a server with that [trust], which itself believes the client, and
/// whose clock says `their_time`.
Reason client_on(const std::shared_ptr<const credentials::Trust>& ours,
                 const std::shared_ptr<const credentials::Trust>& theirs,
                 Fleet::Time their_time = std::chrono::system_clock::now()) {
  End client(ours, "app=web");
  End server(theirs, "app=web");
  server.now.wall = their_time;
  const Exchange said = exchange(client, server, Connection{});
  EXPECT_FALSE(said.reply.empty());
  EXPECT_FALSE(said.verified.authorises());
  EXPECT_TRUE(said.proof.empty());
  EXPECT_NE(segment(said.verified.packet).flags() & wire::kRst, 0) << "at once";
  EXPECT_EQ(client.refused(client.last()), 1U);
  return client.last();
}

TEST(PeerTrust, ACertificateOfAnotherTrustDomainIsUntrusted) {
  Fleet ours;
  Fleet theirs("others");
  Fleet namesake;  // of the same name, with another key
  EXPECT_EQ(server_on(theirs.trust("a"), ours.trust("b")), Reason::untrusted);
  EXPECT_EQ(server_on(namesake.trust("a"), ours.trust("b")), Reason::untrusted);
  EXPECT_EQ(client_on(ours.trust("a"), theirs.trust(theirs.issue("b"), {}, {&ours})),
            Reason::untrusted);
}

TEST(PeerTrust, AnotherSecretIsUntrusted) {
  EXPECT_EQ(server_on(psk_trust("a", kNextSecret), psk_trust("b", kSecret)), Reason::untrusted);
}

TEST(PeerTrust, AnotherKindOfCredentialIsUnknown) {
  Fleet fleet;
  EXPECT_EQ(server_on(psk_trust("a", kSecret), fleet.trust("b")), Reason::unknown_type);
  EXPECT_EQ(server_on(fleet.trust("a"), psk_trust("b", kSecret)), Reason::unknown_type);
}

TEST(PeerTrust, ACertificateIsBelievedInItsTimeOnly) {
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

TEST(PeerTrust, ACertificateThatIsRememberedIsBelievedInItsTimeOnly) {
  Fleet fleet;
  End client(fleet.trust(fleet.issue("a", {}, std::chrono::system_clock::now(), 1)), "app=web");
  End server(fleet.trust("b"), "app=web");
  ASSERT_TRUE(connects(client, server, Connection::number(0)));
  server.now.wall += 3 * kDay;
  EXPECT_EQ(exchange(client, server, Connection::number(1)).heard.ruling, Ruling::refuse);
  EXPECT_EQ(server.last(), Reason::expired);
}

TEST(PeerTrust, ACertificateThatExpiresBetweenHelloAndProofIsRefused) {
  Fleet fleet;
  End client(fleet.trust(fleet.issue("a", {}, std::chrono::system_clock::now(), 1)), "app=web");
  End server(fleet.trust("b"), "app=web");
  const Exchange said = exchange(client, server, Connection{});
  ASSERT_TRUE(said.verified.authorises());
  server.now.wall += 3 * kDay;
  EXPECT_EQ(server.in(said.proof).ruling, Ruling::refuse);
  EXPECT_EQ(server.last(), Reason::expired);
}

TEST(PeerTrust, ARevokedCertificateIsRefused) {
  Fleet fleet;
  const auto bad = fleet.issue("a");
  EXPECT_EQ(server_on(fleet.trust(bad), fleet.trust(fleet.issue("b"), {bad.certificate})),
            Reason::revoked);
  EXPECT_EQ(client_on(fleet.trust(fleet.issue("b"), {bad.certificate}), fleet.trust(bad)),
            Reason::revoked);
}

TEST(PeerTrust, LabelsThatACertificateDoesNotVouchForAreRefused) {
  Fleet fleet;
  const auto limited = fleet.trust(fleet.issue("a", "app=db*"));
  // An honest host does not even ask.
  End honest(limited, "app=web");
  EXPECT_EQ(honest.out(Connection{}.syn()).ruling, Ruling::refuse);
  EXPECT_EQ(honest.last(), Reason::label_constraint);
  EXPECT_EQ(client_on(fleet.trust("b"), limited), Reason::label_constraint);
  // A dishonest one changes its HELLO.
  End client(limited, "app=db-1");
  End server(fleet.trust("b"), "app=web");
  const Packet hello = client.out(Connection{}.syn()).packet;
  wire::Token token = wire::read_token(wire::Message::hello, segment(hello).payload()).value();
  const std::string labels = label_set("app=web").encode();
  token.labels = {reinterpret_cast<const std::uint8_t*>(labels.data()), labels.size()};
  Draft lie{.ends = Connection{}.ends, .sequence = 1000, .data = Packet(2'000)};
  lie.data.resize(wire::write_token(token, lie.data));
  ASSERT_FALSE(lie.data.empty());
  EXPECT_EQ(server.in(lie.bytes()).ruling, Ruling::refuse);
  EXPECT_EQ(server.last(), Reason::label_constraint);
}

TEST(PeerTrust, WithoutACredentialNobodyElsewhereIsAsked) {
  End client(credentials::Trust::local().value(), "app=web");
  EXPECT_EQ(client.out(Connection{}.syn()).ruling, Ruling::refuse);
  EXPECT_EQ(client.last(), Reason::no_credential);
}

TEST(PeerTrust, BothSecretsCountDuringARotation) {
  const std::string both = std::string(kSecret) + kNextSecret;
  const std::string swapped = std::string(kNextSecret) + kSecret;
  const std::vector<std::string> steps = {kSecret, both, swapped, kNextSecret};
  End client(psk_trust("a", kSecret), "app=web");
  End server(psk_trust("b", kSecret), "app=web");
  std::uint16_t number = 0;
  // One step at a time, each host in its turn, and the packets of a handshake on either side of
  // every step.
  for (std::size_t step = 1; step < steps.size(); step++) {
    for (const bool client_first : {true, false}) {
      for (int when = 0; when < 4; when++) {
        End one(psk_trust("a", steps[step - 1]), "app=web");
        End two(psk_trust("b", steps[step - 1]), "app=web");
        End& changed = client_first ? one : two;
        const auto change = [&](int now) {
          if (now == when) {
            changed.engine->set_trust(psk_trust(client_first ? "a" : "b", steps[step]));
          }
        };
        const Connection connection = Connection::number(number++);
        change(0);
        const Outcome asked = one.out(connection.syn());
        change(1);
        ASSERT_TRUE(two.in(asked.packet).passes()) << step << client_first << when;
        const Outcome replied = two.out(connection.syn_ack());
        change(2);
        const Outcome verified = one.in(replied.packet);
        ASSERT_TRUE(verified.authorises()) << step << client_first << when << text(one.last());
        change(3);
        ASSERT_TRUE(two.in(*verified.proof).authorises())
            << step << client_first << when << text(two.last());
      }
    }
  }
}

TEST(PeerTrust, NothingOfAnOldSecretCountsOnceItIsTakenAway) {
  End client(psk_trust("a", kSecret), "app=web");
  End server(psk_trust("b", kSecret), "app=web");
  const Exchange said = exchange(client, server, Connection{});
  server.engine->set_trust(psk_trust("b", kNextSecret));
  EXPECT_EQ(server.in(said.proof).ruling, Ruling::refuse);
  EXPECT_EQ(server.last(), Reason::untrusted);
  const Connection again = Connection::number(1);
  EXPECT_EQ(server.in(client.out(again.syn()).packet).ruling, Ruling::refuse);
  EXPECT_EQ(server.last(), Reason::untrusted);
}

TEST(PeerTrust, ARotationInTheMiddleOfAHandshakeDoesNotChangeItsHello) {
  Fleet fleet;
  End client(fleet.trust("a"), "app=web");
  End server(fleet.trust("b"), "app=web");
  const Connection connection;
  const Packet hello = client.out(connection.syn()).packet;
  ASSERT_TRUE(server.in(hello).passes());
  client.engine->set_trust(fleet.trust("a"));  // a new certificate and key
  EXPECT_EQ(client.out(connection.syn()).packet, hello) << "a repeated SYN says the same";
  const Outcome verified = client.in(server.out(connection.syn_ack()).packet);
  ASSERT_TRUE(verified.authorises()) << text(client.last());
  EXPECT_TRUE(server.in(*verified.proof).authorises());
}

TEST(PeerTrust, AHostIsKnownAgainAfterOurOwnKeyHasChanged) {
  Fleet fleet;
  End client(fleet.trust("a"), "app=web");
  End server(fleet.trust("b"), "app=web");
  ASSERT_TRUE(connects(client, server, Connection::number(0)));
  server.engine->set_trust(fleet.trust("b"));
  client.engine->set_trust(fleet.trust("a"));
  EXPECT_TRUE(connects(client, server, Connection::number(1)));
  EXPECT_TRUE(connects(client, server, Connection::number(2)));
  EXPECT_TRUE(connects(server, client, Connection::number(3))) << "the other way round";
}

TEST(PeerTrust, AHostRevokedInTheMiddleOfAHandshakeIsRefused) {
  Fleet fleet;
  const auto bad = fleet.issue("a");
  const auto own = fleet.issue("b");
  End client(fleet.trust(bad), "app=web");
  End server(fleet.trust(own), "app=web");
  const Exchange said = exchange(client, server, Connection{});
  server.engine->set_trust(fleet.trust(own, {bad.certificate}));
  EXPECT_EQ(server.in(said.proof).ruling, Ruling::refuse);
  EXPECT_EQ(server.last(), Reason::revoked);
  End other(fleet.trust(own), "app=web");
  const Packet hello = other.out(Connection::number(1).syn()).packet;
  other.engine->set_trust(fleet.trust(own, {bad.certificate}));
  End impostor(fleet.trust(bad), "app=web");
  ASSERT_TRUE(impostor.in(hello).passes());
  EXPECT_FALSE(other.in(impostor.out(Connection::number(1).syn_ack()).packet).authorises());
  EXPECT_EQ(other.last(), Reason::revoked);
}

TEST(PeerTrust, AnUnknownCredentialIsVerifiedOncePerHost) {
  Fleet fleet;
  End client(fleet.trust("a"), "app=web");
  End server(fleet.trust("b"), "app=web");
  for (std::uint16_t number = 0; number < 50; number++) {
    ASSERT_TRUE(connects(client, server, Connection::number(number)));
  }
  EXPECT_EQ(client.engine->statistics().verifications, 1U);
  EXPECT_EQ(server.engine->statistics().verifications, 1U);
}

TEST(PeerTrust, AHostWithMoreLabelSetsThanAreRememberedIsServedAllTheSame) {
  End server(psk_trust("b", kSecret), "app=web");
  policy::Policy any;
  any.baseline = policy::Baseline::any_common_label;
  server.set_policy(any);
  End client(psk_trust("a", kSecret), "app=web");
  client.set_policy(any);
  for (int job = 0; job < 5'000; job++) {
    client.engine->add_local(std::make_shared<const LocalIdentity>(
        End::kNumber, label_set("app=web,job=" + std::to_string(job))));
    ASSERT_TRUE(connects(client, server, Connection::number(static_cast<std::uint16_t>(job))))
        << job << text(server.last());
  }
}

}  // namespace
}  // namespace trireme::handshake
