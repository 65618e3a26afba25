// SPDX-License-Identifier: Apache-2.0
// How flows to remote hosts ended: counted for each host, in bounded memory.
#include "trireme/handshake/peer_health.hpp"

#include <gmock/gmock.h>

#include "handshake_datagram_support.hpp"

namespace trireme::handshake {
namespace {

using std::chrono::milliseconds;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr milliseconds kNow = std::chrono::hours(1000);

TEST(PeerHealth, MostFlowsMustFailAndMoreThanAFew) {
  PeerHealth peers;
  const auto host = address("10.0.0.2");
  const auto fails = [&] { return peers.recent(kNow).at(0).fails(); };
  peers.note_refused(host, Reason::denied_by_peer, "first", kNow);
  peers.note_refused(host, Reason::denied_by_peer, "second", kNow);
  EXPECT_FALSE(fails()) << "two can be a coincidence";
  peers.note_refused(host, Reason::no_answer, "third", kNow);
  EXPECT_TRUE(fails());
  const auto list = peers.recent(kNow);
  ASSERT_THAT(list, SizeIs(1));
  EXPECT_EQ(list[0].address, host);
  EXPECT_EQ(list[0].refused, 3U);
  EXPECT_EQ(list[0].reason, Reason::no_answer) << "the newest";
  EXPECT_EQ(list[0].detail, "third");
  for (int i = 0; i < 3; i++) {
    peers.note_allowed(host, kNow);
  }
  EXPECT_FALSE(fails()) << "half of them";
}

TEST(PeerHealth, WhatThisHostDecidesSaysNothingAboutAPeer) {
  PeerHealth peers;
  for (const Reason reason : {Reason::policy, Reason::unknown_workload, Reason::no_credential,
                              Reason::own_expired, Reason::busy, Reason::crowded}) {
    peers.note_refused(address("10.0.0.2"), reason, "", kNow);
  }
  EXPECT_THAT(peers.recent(kNow), IsEmpty());
}

TEST(PeerHealth, OldFlowsAreForgotten) {
  PeerHealth peers;
  const auto host = address("10.0.0.2");
  peers.note_refused(host, Reason::no_answer, "", kNow);
  EXPECT_THAT(peers.recent(kNow + PeerHealth::kPeriod), SizeIs(1));
  EXPECT_THAT(peers.recent(kNow + 2 * PeerHealth::kPeriod), IsEmpty());
  peers.note_allowed(host, kNow + PeerHealth::kPeriod);
  peers.note_allowed(host, kNow + 2 * PeerHealth::kPeriod);
  const auto list = peers.recent(kNow + 2 * PeerHealth::kPeriod);
  ASSERT_THAT(list, SizeIs(1));
  EXPECT_EQ(list[0].refused, 0U);
  EXPECT_EQ(list[0].reason, Reason::none) << "of no refusal that counts";
  EXPECT_EQ(list[0].allowed, 2U);
}

TEST(PeerHealth, AScanDoesNotDisplaceAHostInUse) {
  PeerHealth peers;
  const auto used = address("10.0.0.2");
  for (int i = 0; i < 5; i++) {
    peers.note_refused(used, Reason::denied_by_peer, "policy there", kNow);
  }
  for (int i = 0; i < 60'000; i++) {
    peers.note_refused(address("10.9." + std::to_string(i / 256) + "." + std::to_string(i % 256)),
                       Reason::no_answer, "", kNow);
  }
  const auto list = peers.recent(kNow);
  EXPECT_LE(list.size(), PeerHealth::kPeers);
  ASSERT_FALSE(list.empty());
  EXPECT_EQ(list[0].address, used) << "the one with most refusals";
  EXPECT_EQ(list[0].refused, 5U);
}

TEST(PeerHealth, TheAddressesOfOneHostShareAnEntry) {
  PeerHealth peers;
  for (int i = 1; i <= 9; i++) {
    peers.note_refused(address("fd00::" + std::to_string(i)), Reason::no_answer, "", kNow);
  }
  EXPECT_THAT(peers.recent(kNow), SizeIs(1)) << "an IPv6 /64";
}

/// The engine counts each flow, although an equal event is shown once in five seconds.
TEST(PeerHealth, TheEngineCountsWhatBecomesOfFlows) {
  Host client{psk_trust("a", kSecret), "app=web"};
  Host server{psk_trust("b", kSecret), "app=db"};
  const auto connect = [&](std::uint16_t port) {
    Connection connection;
    connection.ends.source_port = port;
    const Outcome received = server.in(client.out(connection.syn()).packet);
    if (received.syn_ack) {
      std::ignore = client.in(*received.syn_ack);
    }
  };
  for (std::uint16_t port = 40'000; port < 40'004; port++) {
    connect(port);
  }
  const auto list = client.proved->peers.recent(client.now.monotonic);
  ASSERT_THAT(list, SizeIs(1));
  EXPECT_EQ(list[0].address, address("10.0.0.2"));
  EXPECT_EQ(list[0].refused, 4U);
  EXPECT_EQ(list[0].allowed, 0U);
  EXPECT_EQ(list[0].reason, Reason::denied_by_peer);
  EXPECT_EQ(list[0].detail, "denied by peer 10.0.0.2: policy there");
  EXPECT_THAT(server.proved->peers.recent(server.now.monotonic), IsEmpty())
      << "the server's host did not begin them";
}

}  // namespace
}  // namespace trireme::handshake
