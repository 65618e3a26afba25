// SPDX-License-Identifier: Apache-2.0
// The binding of a handshake to its flow, over TCP and UDP: a neighbor that relays tokens gains
// nothing, and NAT on either host is resolved.
#include <functional>

#include "../../src/handshake/binding.hpp"
#include "handshake_datagram_support.hpp"

namespace trireme::handshake {
namespace {

using policy::SocketAddress;

SocketAddress at(const std::string& text) {
  return SocketAddress::parse(text).value();
}

wire::Ends flow(const std::string& source, const std::string& destination) {
  const SocketAddress from = at(source);
  const SocketAddress to = at(destination);
  return {from.address, to.address, from.port, to.port};
}

wire::Ends reversed(const wire::Ends& ends) {
  return {ends.destination, ends.source, ends.destination_port, ends.source_port};
}

/// The packet with other addresses and ports, as after NAT or a relay. IPv4 only. Checksums are not
/// updated: engines leave them to the kernel.
Packet carried(Packet packet, const wire::Ends& ends) {
  std::copy_n(ends.source.bytes.begin(), 4, packet.begin() + 12);
  std::copy_n(ends.destination.bytes.begin(), 4, packet.begin() + 16);
  const std::array<std::uint16_t, 2> ports = {ends.source_port, ends.destination_port};
  for (std::size_t i = 0; i < ports.size(); i++) {
    packet.at(20 + 2 * i) = static_cast<std::uint8_t>(ports.at(i) >> 8U);
    packet.at(21 + 2 * i) = static_cast<std::uint8_t>(ports.at(i));
  }
  return packet;
}

/// Which side authorized the flow after a handshake without packet loss.
struct Believed {
  bool client = false;
  bool server = false;
  bool operator==(const Believed&) const = default;
};
constexpr Believed kBoth = {true, true};
constexpr Believed kNeither = {false, false};

class Binding : public testing::TestWithParam<bool> {
 protected:
  [[nodiscard]] static bool over_udp() { return GetParam(); }

  /// `sent`: the flow as the client sends it; `received`: as the server receives it.
  Believed handshake(const wire::Ends& sent, const wire::Ends& received) {
    return over_udp() ? datagrams(sent, received) : segments(sent, received);
  }

  Believed segments(const wire::Ends& sent, const wire::Ends& received) {
    Connection out;
    out.ends = sent;
    Connection in;
    in.ends = received;
    const Outcome hello = client_.out(out.syn());
    EXPECT_TRUE(hello.passes());
    EXPECT_TRUE(server_.in(carried(hello.packet, received)).passes());
    const Outcome reply = server_.out(in.syn_ack());
    EXPECT_TRUE(reply.passes());
    const Outcome verified = client_.in(carried(reply.packet, reversed(sent)));
    if (!verified.authorizes() || !verified.proof) {
      return kNeither;
    }
    return {true, server_.in(carried(*verified.proof, received)).authorizes()};
  }

  Believed datagrams(const wire::Ends& sent, const wire::Ends& received) {
    EXPECT_TRUE(client_.leave(datagram(sent, "query"), abi::kFresh).hold);
    const auto reply = server_.take_hello(carried(client_.port.take(), received), abi::kFresh);
    EXPECT_TRUE(reply);
    std::ignore = client_.arrive(carried(reply.value_or(Packet{}), reversed(sent)), abi::kReplies);
    if (client_.port.sent.empty()) {
      return kNeither;
    }
    std::ignore = server_.arrive(carried(client_.port.take(), received));
    const bool is_ready = !server_.port.sent.empty();
    server_.port.sent.clear();
    return {true, is_ready};
  }

  static void translate(Host& host, const Translation& flow) {
    const auto known = [flow](const wire::Ends& /*ends*/) { return flow; };
    host.translate = known;
    host.port.translate = known;
  }
  static void declare(Host& host, const std::string& nat) {
    host.engine->set_host_nat({policy::Prefix::parse(nat).value()});
  }

  Host client_{psk_trust("a", kSecret), "app=web"};
  Host server_{psk_trust("b", kSecret), "app=web"};
  const wire::Ends direct_ = flow("10.0.0.1:40000", "10.0.0.2:80");
};

TEST_P(Binding, HoldsWhereNothingIsTranslated) {
  EXPECT_EQ(handshake(direct_, direct_), kBoth);
  EXPECT_TRUE(client_.events.empty());
  EXPECT_TRUE(server_.events.empty());
}

/// A neighbor answers for an address that is not its own, and connects to the server from its own.
TEST_P(Binding, WhatANeighbourPassesOnIsRefused) {
  EXPECT_EQ(handshake(flow("10.0.0.1:40000", "10.0.0.9:80"), flow("10.0.0.9:40000", "10.0.0.2:80")),
            kNeither);
  ASSERT_EQ(client_.last(), Reason::other_address);
  EXPECT_EQ(client_.events.back().detail, "the server's host names 10.0.0.2:80");
}

TEST_P(Binding, AnotherPortOfTheServerIsNotTheOneThatWasAskedFor) {
  EXPECT_EQ(handshake(flow("10.0.0.1:40000", "10.0.0.2:80"), flow("10.0.0.1:40000", "10.0.0.2:81")),
            kNeither);
  EXPECT_EQ(client_.last(), Reason::other_address);
}

/// The neighbor answers for the real server, so REPLY names the right endpoint; PROOF names the
/// client's.
TEST_P(Binding, ProofFromElsewhereIsNoProof) {
  EXPECT_EQ(handshake(direct_, flow("10.0.0.9:40000", "10.0.0.2:80")), (Believed{true, false}));
  EXPECT_EQ(server_.last(), Reason::forged_proof);
  EXPECT_EQ(handshake(flow("10.0.0.1:40001", "10.0.0.2:80"), flow("10.0.0.1:40002", "10.0.0.2:80")),
            (Believed{true, false}));
}

TEST_P(Binding, APublishedPortIsLookedThrough) {
  const wire::Ends sent = flow("10.0.0.1:40000", "10.0.0.2:8080");
  const wire::Ends inside = flow("10.0.0.1:40000", "172.17.0.5:80");
  translate(server_, {sent, inside});
  EXPECT_EQ(handshake(sent, inside), kBoth);
}

TEST_P(Binding, AMasqueradeIsLookedThrough) {
  const wire::Ends sent = flow("172.17.0.5:40000", "10.0.0.2:80");
  const wire::Ends outside = flow("10.0.0.1:50000", "10.0.0.2:80");
  translate(client_, {sent, outside});
  EXPECT_EQ(handshake(sent, outside), kBoth);
}

TEST_P(Binding, WhatTheClientsOwnHostTurnsElsewhereIsWhatItAsksFor) {
  const wire::Ends asked = flow("10.0.0.1:40000", "10.1.1.1:80");
  translate(client_, {asked, direct_});
  EXPECT_EQ(handshake(direct_, direct_), kBoth) << "as the verifier sees it";
  const wire::Ends other = flow("10.0.0.1:40001", "10.1.1.1:80");
  translate(client_, {other, flow("10.0.0.1:40001", "10.0.0.2:80")});
  EXPECT_EQ(handshake(other, flow("10.0.0.1:40001", "10.0.0.2:80")), kBoth) << "and before it";
}

/// Both workloads are on one host, with its NAT between them.
TEST_P(Binding, NatBetweenTwoEndsOfOneHostIsLookedThrough) {
  const wire::Ends sent = flow("172.17.0.5:40000", "10.0.0.1:8080");
  const wire::Ends inside = flow("172.17.0.1:50000", "172.17.0.6:80");
  translate(client_, {sent, inside});
  translate(server_, {sent, inside});
  EXPECT_EQ(handshake(sent, inside), kBoth);
}

TEST_P(Binding, TheServersHostMayTranslateItsClients) {
  const wire::Ends inside = flow("172.17.0.1:50000", "172.17.0.6:80");
  translate(server_, {direct_, inside});
  EXPECT_EQ(handshake(direct_, inside), kBoth);
}

TEST_P(Binding, ATranslationByAThirdMachineHasToBeDeclared) {
  const wire::Ends vip = flow("10.0.0.1:40000", "10.5.5.5:80");
  EXPECT_EQ(handshake(vip, direct_), kNeither);
  declare(client_, "10.5.5.0/24");
  EXPECT_EQ(handshake(flow("10.0.0.1:40001", "10.5.5.5:80"), flow("10.0.0.1:40001", "10.0.0.2:80")),
            kBoth);
  const wire::Ends behind = flow("10.6.6.6:50000", "10.0.0.2:80");
  EXPECT_EQ(handshake(flow("10.0.0.1:40002", "10.0.0.2:80"), behind), (Believed{true, false}));
  declare(server_, "10.6.6.6/32");
  EXPECT_EQ(handshake(flow("10.0.0.1:40003", "10.0.0.2:80"), flow("10.6.6.6:50001", "10.0.0.2:80")),
            kBoth);
}

TEST_P(Binding, ADeclarationIsForItsAddressesAlone) {
  declare(client_, "10.5.5.0/24");
  declare(server_, "10.6.6.6/32");
  EXPECT_EQ(handshake(flow("10.0.0.1:40000", "10.0.0.9:80"), flow("10.0.0.9:40000", "10.0.0.2:80")),
            kNeither);
  EXPECT_EQ(handshake(flow("10.0.0.1:40001", "10.0.0.2:80"), flow("10.0.0.9:40001", "10.0.0.2:80")),
            (Believed{true, false}));
}

INSTANTIATE_TEST_SUITE_P(Carriers, Binding, testing::Bool(), [](const auto& carrier) {
  return carrier.param ? "Datagrams" : "Segments";
});

/// Before REPLY is made, no PROOF is valid, in particular none of zeros.
TEST(Proofs, OfNothingProveNothing) {
  Conversation conversation;
  EXPECT_FALSE(proves(conversation, Tag{}));
  conversation.is_prepared = true;
  conversation.proof = conversation.other_proof = {1};
  EXPECT_TRUE(proves(conversation, Tag{1}));
  EXPECT_FALSE(proves(conversation, Tag{}));
}

/// Either side refuses another version and reports it.
TEST(Versions, AnotherOneIsNamed) {
  Host client{psk_trust("a", kSecret), "app=web"};
  Host server{psk_trust("b", kSecret), "app=web"};
  const auto older = [](Packet packet) {
    const auto magic = std::ranges::search(packet, abi::kMagic).begin();
    *(magic + 8) = 1;
    return packet;
  };
  const auto newer = [](Packet packet) {
    const auto magic = std::ranges::search(packet, abi::kMagic).begin();
    *(magic + 8) = wire::kVersion + 1;
    return packet;
  };
  const Connection connection;
  const Packet hello = client.out(connection.syn()).packet;
  EXPECT_EQ(server.in(older(hello)).ruling, abi::Ruling::refuse);
  ASSERT_EQ(server.last(), Reason::version);
  EXPECT_EQ(server.events.back().detail, "peer 10.0.0.1 speaks version 1: upgrade it");
  EXPECT_EQ(server.in(newer(hello)).ruling, abi::Ruling::refuse);
  EXPECT_EQ(server.events.back().detail, "peer 10.0.0.1 speaks version 3: upgrade this host");
  ASSERT_TRUE(server.in(hello).passes());
  const Packet reply = server.out(connection.syn_ack()).packet;
  EXPECT_FALSE(client.in(older(reply)).authorizes());
  ASSERT_EQ(client.last(), Reason::version);
  EXPECT_EQ(client.events.back().detail, "peer 10.0.0.2 speaks version 1: upgrade it");

  const wire::Ends ends{address("10.0.0.1"), address("10.0.0.2"), 40'000, 53};
  std::ignore = client.leave(datagram(ends, "query"), abi::kFresh);
  const Packet asked = client.port.take();
  EXPECT_FALSE(server.take_hello(older(asked), abi::kFresh));
  EXPECT_EQ(server.last(), Reason::version);
  const auto answered = server.take_hello(asked, abi::kFresh);
  ASSERT_TRUE(answered);
  EXPECT_TRUE(client.arrive(older(*answered), abi::kReplies).drop);
  EXPECT_EQ(client.last(), Reason::version);
  EXPECT_TRUE(client.arrive(*answered, abi::kReplies).drop);
  EXPECT_FALSE(client.port.sent.empty()) << "the server's valid REPLY is still accepted";
}

}  // namespace
}  // namespace trireme::handshake
