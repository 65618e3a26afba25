// SPDX-License-Identifier: Apache-2.0
// Floods of HELLOs: the table is bounded, each source has its share of it, and other sources are
// still served.
#include <algorithm>
#include <random>

#include "handshake_support.hpp"
#include "trireme/wire/token.hpp"

namespace trireme::handshake {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kCapacity = 1'024;
constexpr std::size_t kShare = kCapacity / 8;

struct Floods : testing::Test {
  Fleet fleet;
  End client{fleet.trust("client"), "app=web"};
  End server{fleet.trust("server"), "app=web", "10.0.0.0/8", kCapacity};
  std::mt19937 random{1};

  Packet said =
      client.out(Connection{}.syn()).packet;  // of an honest client, recorded by the attacker

  /// A SYN of the attacker: `data` from an address and port.
  static Packet from(std::uint32_t source, std::uint16_t port, std::span<const std::uint8_t> data) {
    Draft draft{
        .ends = Connection{}.ends, .sequence = 1000, .data = Packet(data.begin(), data.end())};
    for (int byte = 0; byte < 4; byte++) {
      draft.ends.source.bytes.at(static_cast<std::size_t>(byte)) =
          static_cast<std::uint8_t>(source >> (24U - 8U * static_cast<unsigned>(byte)));
    }
    draft.ends.source_port = port;
    return draft.bytes();
  }
  [[nodiscard]] std::span<const std::uint8_t> hello() const { return segment(said).payload(); }
  /// An allowed connection of the honest client, at its n-th port.
  bool still_serves(std::uint16_t number) {
    return connects(client, server, Connection::number(number));
  }
};

TEST_F(Floods, ASourceHasItsShareOfTheTable) {
  for (std::uint16_t port = 0; port < 5'000; port++) {
    server.in(from(0x0a000063, port, hello()));
  }
  EXPECT_EQ(server.engine->statistics().handshakes, kShare);
  EXPECT_EQ(server.refused(Reason::crowded), 5'000 - kShare);
  EXPECT_EQ(server.engine->statistics().verifications, 1U);
  EXPECT_TRUE(still_serves(1));
}

TEST_F(Floods, TheShareComesBackWithTime) {
  for (std::uint16_t port = 0; port < 2 * kShare; port++) {
    server.in(from(0x0a000063, port, hello()));
  }
  EXPECT_TRUE(server.in(from(0x0a000063, 60'000, hello())).drop);
  server.pass_time(std::chrono::minutes(3));
  for (std::uint16_t port = 0; port < 2 * kShare; port++) {  // new ones evict old ones
    server.in(from(0x0a000064, port, hello()));
  }
  EXPECT_TRUE(server.in(from(0x0a000063, 60'000, hello())).passes());
}

TEST_F(Floods, OldHandshakesFreeTheirShareThoughNobodyElseComes) {
  for (std::uint16_t port = 0; port < 2 * kShare; port++) {
    server.in(from(0x0a000063, port, hello()));
  }
  server.pass_time(std::chrono::minutes(3));
  EXPECT_TRUE(server.in(from(0x0a000063, 60'000, hello())).passes());
}

TEST_F(Floods, ManySourcesFillTheTableAndNotMore) {
  const Exchange under_way = exchange(client, server, Connection::number(9));
  for (int i = 0; i < cases(5'000, 300'000); i++) {
    server.in(
        from(static_cast<std::uint32_t>(random()), static_cast<std::uint16_t>(random()), hello()));
    if (i % 500 == 0) {
      ASSERT_TRUE(still_serves(static_cast<std::uint16_t>(100 + i / 500))) << i;
    }
  }
  EXPECT_LE(server.engine->statistics().handshakes, kCapacity);
  EXPECT_GT(server.engine->statistics().evicted, 0U);
  EXPECT_FALSE(under_way.proof.empty());
}

TEST_F(Floods, UnknownCertificatesCostNoMoreWorkThanIsAllowed) {
  // Certificates that differ only in their signature, so that each must be verified.
  Packet changed(hello().begin(), hello().end());
  const std::size_t at =
      wire::kTokenHeader + wire::read_token(wire::Message::hello, hello())->credential.size() - 5;
  constexpr int kSeconds = 4;
  ASSERT_TRUE(still_serves(0));
  for (int i = 0; i < kSeconds * 1'000; i++) {
    for (std::size_t byte = 0; byte < 4; byte++) {
      changed.at(at + byte) = static_cast<std::uint8_t>(i >> 8U * byte);
    }
    server.pass_time(milliseconds(1));
    const Outcome outcome = server.in(from(static_cast<std::uint32_t>(random()), 5'000, changed));
    ASSERT_FALSE(outcome.passes());
    if (i % 250 == 0) {
      ASSERT_TRUE(still_serves(static_cast<std::uint16_t>(i + 1))) << i;
    }
  }
  EXPECT_LE(server.engine->statistics().verifications, 100U * (kSeconds + 1) + 1);
  EXPECT_GT(server.refused(Reason::busy), 3'000U);
}

TEST_F(Floods, AKnownHostIsServedThoughItsCertificateIsForgottenInAFlood) {
  // The flood has evicted the client's certificate from the cache, or trust was reloaded, so it
  // must be verified again during the flood.
  ASSERT_TRUE(still_serves(0));
  Packet changed(hello().begin(), hello().end());
  const std::size_t at =
      wire::kTokenHeader + wire::read_token(wire::Message::hello, hello())->credential.size() - 5;
  const auto flood = [&](int i) {
    for (std::size_t byte = 0; byte < 4; byte++) {
      changed.at(at + byte) = static_cast<std::uint8_t>(i >> 8U * byte);
    }
    server.pass_time(milliseconds(1));
    server.in(from(static_cast<std::uint32_t>(random()), 5'000, changed));
  };
  for (int i = 0; i < 2'000; i++) {
    flood(i);
  }
  server.engine->set_trust(fleet.trust("server"));
  flood(-1);
  EXPECT_TRUE(still_serves(1)) << text(server.last());
}

TEST_F(Floods, RandomDataBehindTheMagicAreRefused) {
  Packet noise(400);
  for (int i = 0; i < 20'000; i++) {
    std::ranges::generate(noise, [&] { return static_cast<std::uint8_t>(random()); });
    std::ranges::copy(abi::kMagic, noise.begin());
    ASSERT_EQ(server.in(from(static_cast<std::uint32_t>(random()), 5'000, noise)).ruling,
              abi::Ruling::refuse);
  }
  EXPECT_EQ(server.engine->statistics().handshakes, 0U);
  EXPECT_EQ(server.engine->statistics().verifications, 0U);
}

TEST_F(Floods, SegmentsOfNoHandshakeLeaveNothingBehind) {
  for (int i = 0; i < 20'000; i++) {
    Connection connection = Connection::number(static_cast<std::uint16_t>(random()));
    ASSERT_EQ(server.in(connection.data()).ruling, abi::Ruling::refuse);
    ASSERT_EQ(server.in(connection.syn_ack()).ruling, abi::Ruling::refuse);
  }
  EXPECT_EQ(server.engine->statistics().handshakes, 0U);
}

TEST_F(Floods, AWorkloadThatConnectsInVainTakesNobodysPlace) {
  constexpr policy::Number kBusy = 78;
  End busy{fleet.trust("busy"), "app=web", "10.0.0.0/8", kCapacity};
  busy.engine->add_local(std::make_shared<const LocalIdentity>(kBusy, label_set("app=web")));
  const Connection connection = Connection::number(9);
  const Outcome hello = busy.out(connection.syn());
  ASSERT_TRUE(connects(busy, server, Connection::number(8)));
  for (std::uint16_t port = 0; port < 20'000; port++) {
    ASSERT_TRUE(
        busy.out(Connection::number(static_cast<std::uint16_t>(100 + port)).syn(), kBusy).passes());
  }
  EXPECT_EQ(busy.engine->statistics().handshakes, kCapacity);
  const Crowding crowding =
      busy.engine->statistics().crowding.at(static_cast<std::size_t>(Bounded::handshakes));
  EXPECT_EQ(crowding.given_up, 20'000U + 2 - kCapacity);
  EXPECT_EQ(crowding.holder.owner, Owner::workload(kBusy));
  EXPECT_EQ(crowding.holder.of, kCapacity);
  // A handshake that was in progress before the flood, and one that begins during it.
  ASSERT_TRUE(server.in(hello.packet).passes());
  const Outcome reply = server.out(connection.syn_ack());
  EXPECT_TRUE(busy.in(reply.packet).authorizes());
  EXPECT_TRUE(connects(busy, server, Connection::number(10)));
  // A packet of a handshake that may have been evicted is dropped, not reset, so that TCP retries.
  EXPECT_TRUE(busy.in(Connection::number(100).syn_ack(), kBusy).drop);
  EXPECT_TRUE(busy.out(Connection::number(100).data(), kBusy).drop);
  busy.pass_time(std::chrono::minutes(5));
  EXPECT_EQ(busy.in(Connection::number(100).syn_ack(), kBusy).ruling, abi::Ruling::refuse);
}

TEST_F(Floods, ManySourcesLeaveLocalWorkloadsTheirHandshakes) {
  End both{fleet.trust("both"), "app=web", "10.0.0.0/8", kCapacity};
  std::vector<Outcome> hellos;
  for (std::uint16_t number = 0; number < 100; number++) {
    hellos.push_back(both.out(Connection::number(number).syn()));
  }
  for (int i = 0; i < 20'000; i++) {
    both.in(
        from(static_cast<std::uint32_t>(random()), static_cast<std::uint16_t>(random()), hello()));
  }
  EXPECT_GT(both.engine->statistics().evicted, 0U);
  for (std::uint16_t number = 0; number < 100; number++) {
    const Connection connection = Connection::number(number);
    ASSERT_TRUE(server.in(hellos.at(number).packet).passes());
    ASSERT_TRUE(both.in(server.out(connection.syn_ack()).packet).authorizes()) << number;
  }
}

}  // namespace
}  // namespace trireme::handshake
