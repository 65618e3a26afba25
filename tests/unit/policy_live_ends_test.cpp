// SPDX-License-Identifier: Apache-2.0
// Pairing sockets into connections, and finding the client.
#include "trireme/policy/live_ends.hpp"

#include <gtest/gtest.h>

namespace trireme::policy {
namespace {

constexpr std::uint64_t kContainer = 4026532281;

Address address(std::string_view text) {
  return Address::parse(text).value();
}

/// "127.0.0.1:80 > 127.0.0.1:40000" in parts.
Direction way(std::string_view from, std::uint16_t from_port, std::string_view to,
              std::uint16_t to_port) {
  return {address(from), address(to), from_port, to_port};
}

class LiveEnds : public testing::Test {
 protected:
  void listener(std::string_view local, std::uint16_t port, std::uint64_t network = 0) {
    LiveSocket socket{.network = network, .sends = {}, .owner = 99};
    socket.sends.source = address(local);
    socket.sends.source_port = port;
    socket.sends.destination.family = socket.sends.source.family;
    sockets_.push_back(socket);
  }
  void socket(const Direction& sends, std::size_t owner, std::uint64_t network = 0) {
    sockets_.push_back({.network = network, .sends = sends, .owner = owner});
  }
  void track(const Direction& original, const Direction& reply, std::uint64_t network = 0,
             bool from_start = true) {
    tracks_.push_back({network, original, reply, from_start});
  }
  [[nodiscard]] std::vector<LiveConnection> found() const {
    return live_connections(sockets_, tracks_);
  }
  /// The only connection.
  [[nodiscard]] LiveConnection one() const {
    const auto connections = found();
    EXPECT_EQ(connections.size(), 1U);
    return connections.empty() ? LiveConnection() : connections.front();
  }

  std::vector<LiveSocket> sockets_;
  std::vector<LiveTrack> tracks_;
};

TEST_F(LiveEnds, TwoSocketsOfOneNetworkAreOneConnection) {
  listener("127.0.0.1", 5432);
  socket(way("127.0.0.1", 40000, "127.0.0.1", 5432), 1);
  socket(way("127.0.0.1", 5432, "127.0.0.1", 40000), 2);
  const LiveConnection live = one();
  ASSERT_TRUE(live.client != nullptr && live.server != nullptr);
  EXPECT_EQ(live.client->owner, 1U);
  EXPECT_EQ(live.server->owner, 2U);
  EXPECT_FALSE(live.is_guess);
  EXPECT_EQ(live.from_client, way("127.0.0.1", 40000, "127.0.0.1", 5432));
}

TEST_F(LiveEnds, TheListenerIsTheServerWhateverItsPort) {
  listener("0.0.0.0", 50000);
  socket(way("10.0.0.1", 50000, "10.0.0.1", 1023), 2);
  socket(way("10.0.0.1", 1023, "10.0.0.1", 50000), 1);
  const LiveConnection live = one();
  EXPECT_EQ(live.server->owner, 2U) << "the port alone would say the opposite";
  EXPECT_FALSE(live.is_guess);
}

TEST_F(LiveEnds, AListenerForBothFamiliesAcceptsIPv4) {
  listener("::", 50000);
  socket(way("10.0.0.1", 50000, "10.0.0.1", 1023), 2);
  socket(way("10.0.0.1", 1023, "10.0.0.1", 50000), 1);
  EXPECT_EQ(one().server->owner, 2U);
}

TEST_F(LiveEnds, AListenerOfAnotherAddressOrNetworkSaysNothing) {
  listener("127.0.0.2", 50000);
  listener("0.0.0.0", 50000, kContainer);
  socket(way("10.0.0.1", 50000, "10.0.0.1", 1023), 2);
  socket(way("10.0.0.1", 1023, "10.0.0.1", 50000), 1);
  EXPECT_TRUE(one().is_guess);
}

TEST_F(LiveEnds, WithoutAListenerTheTrackDecides) {
  socket(way("10.0.0.1", 50000, "10.0.0.1", 1023), 2);
  socket(way("10.0.0.1", 1023, "10.0.0.1", 50000), 1);
  track(way("10.0.0.1", 1023, "10.0.0.1", 50000), way("10.0.0.1", 50000, "10.0.0.1", 1023));
  const LiveConnection live = one();
  EXPECT_EQ(live.client->owner, 1U);
  EXPECT_FALSE(live.is_guess);
  EXPECT_EQ(live.client_track, 0U);
  EXPECT_EQ(live.server_track, 0U);
}

TEST_F(LiveEnds, ATrackFromTheMiddleIsNoEvidence) {
  socket(way("10.0.0.1", 50000, "10.0.0.1", 1023), 2);
  socket(way("10.0.0.1", 1023, "10.0.0.1", 50000), 1);
  track(way("10.0.0.1", 50000, "10.0.0.1", 1023), way("10.0.0.1", 1023, "10.0.0.1", 50000), 0,
        false);
  const LiveConnection live = one();
  EXPECT_TRUE(live.is_guess);
  EXPECT_EQ(live.client->owner, 2U) << "by the ephemeral port";
}

TEST_F(LiveEnds, OfTwoPortsOfOneRangeTheHigherIsTheClients) {
  socket(way("127.0.0.1", 7001, "127.0.0.1", 7000), 1);
  socket(way("127.0.0.1", 7000, "127.0.0.1", 7001), 2);
  EXPECT_EQ(one().client->owner, 1U);
  EXPECT_TRUE(one().is_guess);
}

TEST_F(LiveEnds, OneSocketIsAConnectionWithARemoteHost) {
  listener("0.0.0.0", 443);
  socket(way("10.0.0.1", 443, "192.0.2.7", 40000), 2);
  socket(way("10.0.0.1", 40001, "192.0.2.8", 443), 1);
  const auto live = found();
  ASSERT_EQ(live.size(), 2U);
  EXPECT_EQ(live[0].client, nullptr);
  EXPECT_EQ(live[0].server->owner, 2U);
  EXPECT_EQ(live[0].from_client, way("192.0.2.7", 40000, "10.0.0.1", 443));
  EXPECT_FALSE(live[0].is_guess);
  EXPECT_EQ(live[1].server, nullptr);
  EXPECT_EQ(live[1].from_client, way("10.0.0.1", 40001, "192.0.2.8", 443));
  EXPECT_TRUE(live[1].is_guess) << "nothing but the ports says that it is the client";
}

TEST_F(LiveEnds, LoopbackAddressesOfTwoNetworksAreNotPaired) {
  socket(way("127.0.0.1", 40000, "127.0.0.1", 5432), 1);
  socket(way("127.0.0.1", 5432, "127.0.0.1", 40000), 2, kContainer);
  EXPECT_EQ(found().size(), 2U);
}

TEST_F(LiveEnds, OtherAddressesOfTwoNetworksArePaired) {
  listener("0.0.0.0", 80, kContainer);
  socket(way("172.17.0.1", 40000, "172.17.0.2", 80), 1);
  socket(way("172.17.0.2", 80, "172.17.0.1", 40000), 2, kContainer);
  const LiveConnection live = one();
  EXPECT_EQ(live.client->network, 0U);
  EXPECT_EQ(live.server->network, kContainer);
}

TEST_F(LiveEnds, ASocketThatTwoNetworksHaveIsNobodys) {
  socket(way("172.17.0.1", 40000, "172.17.0.2", 80), 1);
  socket(way("172.17.0.2", 80, "172.17.0.1", 40000), 2, kContainer);
  socket(way("172.17.0.2", 80, "172.17.0.1", 40000), 3, kContainer + 1);
  EXPECT_EQ(found().size(), 3U) << "one of the two pretends";
  sockets_.pop_back();
  socket(way("172.17.0.1", 40000, "172.17.0.2", 80), 3, kContainer + 1);
  EXPECT_EQ(found().size(), 3U) << "one of two clients pretends";
}

TEST_F(LiveEnds, APairWithinOneNetworkComesFirst) {
  socket(way("10.0.0.1", 40000, "10.0.0.1", 80), 1);
  socket(way("10.0.0.1", 80, "10.0.0.1", 40000), 3, kContainer);
  socket(way("10.0.0.1", 80, "10.0.0.1", 40000), 2);
  const auto live = found();
  ASSERT_EQ(live.size(), 2U);
  EXPECT_EQ(live[0].server->owner, 2U);
  EXPECT_EQ(live[1].client == nullptr ? live[1].server->owner : live[1].client->owner, 3U);
}

TEST_F(LiveEnds, NatWithinOneNetworkIsFollowed) {
  listener("127.0.0.1", 9000);
  socket(way("127.0.0.1", 40000, "127.0.0.1", 80), 1);
  socket(way("127.0.0.1", 9000, "127.0.0.1", 40000), 2);
  track(way("127.0.0.1", 40000, "127.0.0.1", 80), way("127.0.0.1", 9000, "127.0.0.1", 40000));
  const LiveConnection live = one();
  EXPECT_EQ(live.client->owner, 1U);
  EXPECT_EQ(live.server->owner, 2U);
  EXPECT_EQ(live.from_client, way("127.0.0.1", 40000, "127.0.0.1", 9000))
      << "policy sees the port of the server's socket";
}

TEST_F(LiveEnds, NatOfTheHostBetweenTwoContainersIsFollowed) {
  // A published port: the client asks the host, which forwards to the server.
  socket(way("172.17.0.2", 40000, "192.0.2.1", 8080), 1, kContainer);
  socket(way("172.18.0.3", 80, "172.17.0.2", 40000), 2, kContainer + 1);
  track(way("172.17.0.2", 40000, "192.0.2.1", 8080), way("172.18.0.3", 80, "172.17.0.2", 40000));
  const LiveConnection live = one();
  ASSERT_TRUE(live.client != nullptr && live.server != nullptr);
  EXPECT_EQ(live.from_client.destination_port, 80U);
}

TEST_F(LiveEnds, NatToARemoteHostShowsTheRealServer) {
  socket(way("10.0.0.1", 40000, "10.96.0.10", 443), 1);
  track(way("10.0.0.1", 40000, "10.96.0.10", 443), way("192.0.2.9", 6443, "10.0.0.1", 40000));
  const LiveConnection live = one();
  EXPECT_EQ(live.from_client, way("10.0.0.1", 40000, "192.0.2.9", 6443));
  EXPECT_FALSE(live.is_guess);
}

TEST_F(LiveEnds, ListenersAloneAreNoConnections) {
  listener("0.0.0.0", 80);
  EXPECT_TRUE(found().empty());
}

TEST_F(LiveEnds, ASocketConnectedToItselfIsOneEnd) {
  socket(way("127.0.0.1", 7000, "127.0.0.1", 7000), 1);
  EXPECT_EQ(found().size(), 1U);
}

}  // namespace
}  // namespace trireme::policy
