// SPDX-License-Identifier: Apache-2.0
// REFUSAL: the reason of the server's host, sealed for the client, over TCP and UDP.
#include "handshake_datagram_support.hpp"

namespace trireme::handshake {
namespace {

constexpr auto kRefusal = static_cast<std::uint8_t>(wire::Message::refusal);
constexpr const char* kDenied = "denied by peer 10.0.0.2: policy there";

class Refusals : public testing::TestWithParam<bool> {
 protected:
  [[nodiscard]] static bool over_udp() { return GetParam(); }

  /// The REFUSAL that answers HELLO; empty if there is none.
  Packet refusal(Host& client, Host& server) {
    if (over_udp()) {
      EXPECT_TRUE(client.leave(datagram(ends_, "query"), abi::kFresh).hold);
      hello_ = client.port.take();
      return server.take_hello(hello_, abi::kFresh).value_or(Packet{});
    }
    hello_ = client.out(connection_.syn()).packet;
    const Outcome received = server.in(hello_);
    EXPECT_TRUE(received.drop || received.ruling == abi::Ruling::refuse);
    return received.syn_ack.value_or(Packet{});
  }
  /// Delivers a REFUSAL to the client's host.
  static void deliver(Host& client, const Packet& refusal) {
    if (over_udp()) {
      EXPECT_TRUE(client.arrive(refusal, abi::kReplies).drop) << "no application sees it";
      return;
    }
    const Outcome received = client.in(refusal);
    EXPECT_TRUE(received.passes()) << "a reset passes, whoever sent it";
    EXPECT_EQ(segment(received.packet).flags() & wire::kRst, wire::kRst);
    EXPECT_EQ(segment(received.packet).payload_size(), 0U);
  }

  const wire::Ends ends_{address("10.0.0.1"), address("10.0.0.2"), 40'000, 53};
  const Connection connection_;
  Packet hello_;
};

TEST_P(Refusals, SayWhyToWhoeverAsked) {
  Host client{psk_trust("a", kSecret), "app=web"};
  Host server{psk_trust("b", kSecret), "app=db"};
  const Packet said = refusal(client, server);
  ASSERT_FALSE(said.empty());
  deliver(client, said);
  ASSERT_EQ(client.last(), Reason::denied_by_peer);
  EXPECT_EQ(client.events.back().detail, kDenied);
  EXPECT_EQ(server.last(), Reason::policy) << "as before";
  if (over_udp()) {
    ASSERT_FALSE(client.port.verdicts.empty()) << "held datagrams are refused at once";
    EXPECT_EQ(client.port.verdicts.back().priority, ruling(abi::Ruling::refuse));
  }
}

TEST_P(Refusals, NothingIsSaidWherePolicyDoesNotWant) {
  for (const auto& change : std::vector<std::function<void(policy::Policy&)>>{
           [](policy::Policy& policy) { policy.tell_peers = false; },
           [](policy::Policy& policy) { policy.refuse = policy::Refuse::drop; },
           [](policy::Policy& policy) { policy.mode = policy::Mode::audit; }}) {
    Host client{psk_trust("a", kSecret), "app=web"};
    Host server{psk_trust("b", kSecret), "app=db"};
    policy::Policy policy;
    change(policy);
    server.set_policy(policy);
    if (!over_udp()) {
      EXPECT_FALSE(server.in(client.out(connection_.syn()).packet).syn_ack);
      continue;
    }
    const Packet said = refusal(client, server);
    EXPECT_TRUE(said.empty() ||
                wire::control_message(parsed(said).payload()) != kRefusal);  // audit mode replies
  }
}

TEST_P(Refusals, AreSaidToEachSourceAFewTimesASecond) {
  Host server{psk_trust("b", kSecret), "app=db"};
  const auto count = [&](const std::string& from, int attempts) {
    int said = 0;
    for (int i = 0; i < attempts; i++) {
      Host client{psk_trust("a", kSecret), "app=web"};
      const auto port = static_cast<std::uint16_t>(30'000 + i);
      const wire::Ends ends{address(from), address("10.0.0.2"), port, 53};
      if (over_udp()) {
        EXPECT_TRUE(client.leave(datagram(ends, "query"), abi::kFresh).hold);
        said += server.take_hello(client.port.take(), abi::kFresh) ? 1 : 0;
      } else {
        Connection connection;
        connection.ends = ends;
        said += server.in(client.out(connection.syn()).packet).syn_ack ? 1 : 0;
      }
    }
    return said;
  };
  EXPECT_EQ(count("10.0.0.1", 40), 16);
  EXPECT_EQ(count("10.0.0.3", 1), 1) << "each source has its own allowance";
  server.pass(1'000);
  EXPECT_EQ(count("10.0.0.1", 40), 4);
}

TEST_P(Refusals, NothingIsSaidToStrangers) {
  Host client{psk_trust("a", kSecret), "app=web"};
  Host server{psk_trust("b", kNextSecret), "app=db"};
  EXPECT_TRUE(refusal(client, server).empty());
  EXPECT_EQ(server.last(), Reason::untrusted);
}

TEST_P(Refusals, AreBelievedFromTheServerAlone) {
  Host client{psk_trust("a", kSecret), "app=web"};
  Host server{psk_trust("b", kSecret), "app=db"};
  const Packet said = refusal(client, server);
  ASSERT_FALSE(said.empty());
  const auto start =
      static_cast<std::size_t>(std::ranges::search(said, abi::kMagic).begin() - said.begin());
  for (std::size_t bit = start * 8; bit < said.size() * 8; bit += 5) {
    deliver(client, flipped(said, bit));
    ASSERT_NE(client.last(), Reason::denied_by_peer) << bit;
  }
  deliver(client, said);
  EXPECT_EQ(client.last(), Reason::denied_by_peer)
      << "the server's valid REFUSAL is still accepted";
}

TEST_P(Refusals, AreForOneHello) {
  Host client{psk_trust("a", kSecret), "app=web"};
  Host server{psk_trust("b", kSecret), "app=db"};
  const Packet first = refusal(client, server);
  Host again{psk_trust("a", kSecret), "app=web"};
  const Packet second = refusal(again, server);
  ASSERT_FALSE(first.empty() || second.empty());
  deliver(again, first);
  EXPECT_NE(again.last(), Reason::denied_by_peer);
  deliver(again, second);
  EXPECT_EQ(again.last(), Reason::denied_by_peer);
}

/// HELLO is relayed to another host of the fleet, which denies the labels.
TEST_P(Refusals, OfAnotherHostAreNotThisOnes) {
  Host client{psk_trust("a", kSecret), "app=web"};
  Host other{psk_trust("b", kSecret), "app=db"};
  Packet said;
  const auto readdressed = [](Packet packet, std::size_t at, const char* to) {
    std::copy_n(address(to).bytes.begin(), 4, packet.begin() + static_cast<std::ptrdiff_t>(at));
    return packet;
  };
  constexpr std::size_t kSource = 12;
  constexpr std::size_t kDestination = 16;
  if (over_udp()) {
    EXPECT_TRUE(client.leave(datagram(ends_, "query"), abi::kFresh).hold);
    said = other.take_hello(readdressed(client.port.take(), kDestination, "10.0.0.7"), abi::kFresh)
               .value_or(Packet{});
  } else {
    said = other.in(readdressed(client.out(connection_.syn()).packet, kDestination, "10.0.0.7"))
               .syn_ack.value_or(Packet{});
  }
  ASSERT_FALSE(said.empty());
  deliver(client, readdressed(said, kSource, "10.0.0.2"));
  EXPECT_NE(client.last(), Reason::denied_by_peer);
}

/// No REFUSAL is sent for another's flow, or if NAT of the server's namespace applies to the flow.
TEST_P(Refusals, NothingIsSaidInFlowsOfOthers) {
  Host client{psk_trust("a", kSecret), "app=web"};
  Host server{psk_trust("b", kSecret), "app=db"};
  if (over_udp()) {
    EXPECT_TRUE(client.leave(datagram(ends_, "query"), abi::kFresh).hold);
    const Packet hello = client.port.take();
    for (const std::uint32_t flags :
         {0U, abi::kFresh | abi::kTakenOver, abi::kFresh | abi::kAnyNat}) {
      EXPECT_FALSE(server.arrive(hello, flags).awaits) << flags;
    }
    EXPECT_TRUE(server.take_hello(hello, abi::kFresh));
    ASSERT_FALSE(server.port.changes.empty());
    EXPECT_EQ(server.port.changes.back().second, FlowChange::forget) << "its entry is removed";
    return;
  }
  const Packet hello = client.out(connection_.syn()).packet;
  EXPECT_FALSE(server.in(hello, End::kNumber | abi::kAnyNat).syn_ack);
  EXPECT_TRUE(server.in(hello).syn_ack);
}

/// A sealed text is not valid in another type of message.
TEST_P(Refusals, AreNoReplies) {
  Host client{psk_trust("a", kSecret), "app=web"};
  Host server{psk_trust("b", kSecret), "app=db"};
  Packet said = refusal(client, server);
  ASSERT_FALSE(said.empty());
  const auto magic = std::ranges::search(said, abi::kMagic).begin();
  *(magic + 9) = static_cast<std::uint8_t>(wire::Message::reply);
  if (over_udp()) {
    EXPECT_TRUE(client.arrive(said, abi::kReplies).drop);
    EXPECT_TRUE(client.port.sent.empty()) << "no PROOF";
  } else {
    EXPECT_FALSE(client.in(said).authorizes());
  }
}

INSTANTIATE_TEST_SUITE_P(Carriers, Refusals, testing::Bool(), [](const auto& carrier) {
  return carrier.param ? "Datagrams" : "Segments";
});

}  // namespace
}  // namespace trireme::handshake
