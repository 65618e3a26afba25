// SPDX-License-Identifier: Apache-2.0
// The messages in UDP datagrams: known bytes, and what is rejected. Datagrams that trireme sends.
#include "trireme/wire/control.hpp"

#include <algorithm>

#include "wire_support.hpp"

namespace trireme::wire {
namespace {

const Octets kCredential = hex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
const Octets kSaid = hex("6170703d7765620a");  // app=web
const Octets kSeal = hex("c0c1c2c3c4c5c6c7c8c9cacbcccdcecf");
constexpr Nonce kDrawn = {0xB0, 0xB1, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7,
                          0xB8, 0xB9, 0xBA, 0xBB, 0xBC, 0xBD, 0xBE, 0xBF};
constexpr PolicyDigest kPolicy = {0xD0, 0xD1, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7};
const Octets kHelloBytes =
    hex("89 545249 52454d45 02 01 02 80 b0b1b2b3b4b5b6b7b8b9babbbcbdbebf 0010 0008 d0d1d2d3d4d5d6d7"
        "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff 6170703d7765620a");
const Octets kReplyBytes =
    hex("89 545249 52454d45 02 02 02 81 b0b1b2b3b4b5b6b7b8b9babbbcbdbebf 0010 0008 d0d1d2d3d4d5d6d7"
        "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff 6170703d7765620a c0c1c2c3c4c5c6c7c8c9cacbcccdcecf");
const Octets kProofBytes = hex("89 545249 52454d45 02 03 02 80 c0c1c2c3c4c5c6c7c8c9cacbcccdcecf");

Octets padded(Octets bytes, std::size_t size = kHelloDatagram) {
  bytes.resize(size);
  return bytes;
}

Octets datagram_of(const Token& token) {
  Octets out(4096, 0xEE);
  out.resize(write_datagram_token(token, out));
  return out;
}

BadToken fault(Message expected, const Octets& bytes) {
  const auto token = read_datagram_token(expected, bytes);
  EXPECT_FALSE(token);
  return token ? BadToken::no_token : token.error();
}

TEST(Control, HelloAndReplyAreTheseBytes) {
  const Token hello{Message::hello, CredentialType::psk, kDatagram, kDrawn,
                    kPolicy,        kCredential,         kSaid,     {}};
  EXPECT_EQ(datagram_of(hello), padded(kHelloBytes)) << "padded with zeros";
  const Token reply{Message::reply,
                    CredentialType::psk,
                    kDatagram | kClosing,
                    kDrawn,
                    kPolicy,
                    kCredential,
                    kSaid,
                    kSeal};
  EXPECT_EQ(datagram_of(reply), kReplyBytes);
  const Octets bytes = padded(kHelloBytes);
  const auto read = read_datagram_token(Message::hello, bytes);
  ASSERT_TRUE(read);
  EXPECT_TRUE(std::ranges::equal(read->labels, kSaid) &&
              std::ranges::equal(read->credential, kCredential));
  EXPECT_TRUE(read_datagram_token(Message::hello, kHelloBytes))
      << "the verifier checks the amount of padding";
}

TEST(Control, NoMessageIsLargerThanHello) {
  Octets labels(kMaxControl, 'x');
  for (std::size_t size = kMaxControl - 200; size < kMaxControl; size++) {
    const Token reply{Message::reply, CredentialType::psk,           kDatagram, kDrawn, kPolicy,
                      kCredential,    std::span(labels).first(size), kSeal};
    EXPECT_EQ(datagram_of(reply).size(),
              reply_size(16, size) <= kHelloDatagram ? reply_size(16, size) : 0);
    const Token hello{Message::hello, CredentialType::psk,           kDatagram, kDrawn, kPolicy,
                      kCredential,    std::span(labels).first(size), {}};
    EXPECT_EQ(datagram_of(hello).size(),
              hello_size(16, size) <= kHelloDatagram ? kHelloDatagram : 0);
  }
}

TEST(Control, SegmentsAndDatagramsDoNotTakeEachOthersTokens) {
  Octets of_segment = padded(kHelloBytes);
  for (const auto flags : std::to_array<std::uint8_t>({0x00, 0x01, 0x40, 0x82, 0xff})) {
    of_segment[11] = flags;
    EXPECT_EQ(fault(Message::hello, of_segment), BadToken::flags) << unsigned{flags};
  }
  EXPECT_EQ(read_token(Message::hello, kHelloBytes).error(), BadToken::flags);
  Octets out(4096);
  EXPECT_EQ(
      write_token(
          {Message::hello, CredentialType::psk, kDatagram, kDrawn, kPolicy, kCredential, kSaid, {}},
          out),
      0U);
  EXPECT_EQ(
      write_datagram_token(
          {Message::hello, CredentialType::psk, 0, kDrawn, kPolicy, kCredential, kSaid, {}}, out),
      0U);
}

TEST(Control, WhatDoesNotAddUpIsRefused) {
  Octets dirty = padded(kHelloBytes);
  dirty.back() = 1;
  EXPECT_EQ(fault(Message::hello, dirty), BadToken::truncated);
  for (std::size_t size = 0; size < kHelloBytes.size(); size++) {
    const Octets cut(kHelloBytes.begin(), kHelloBytes.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_FALSE(read_datagram_token(Message::hello, cut)) << size;
  }
  EXPECT_EQ(fault(Message::reply, join({kReplyBytes, {0}})), BadToken::truncated)
      << "REPLY is not padded";
  EXPECT_EQ(fault(Message::reply, kHelloBytes), BadToken::message);
  EXPECT_FALSE(is_control(hex("89 545249 52454d")));
}

TEST(Control, ProofAndReadyAreTheseBytes) {
  std::array<std::uint8_t, kTagDatagram> out{};
  Tag tag{};
  std::ranges::copy(kSeal, tag.begin());
  write_tag_message({Message::proof, CredentialType::psk, kDatagram, tag}, out);
  EXPECT_EQ(octets(out), kProofBytes);
  EXPECT_TRUE(read_tag_message(Message::proof, kProofBytes));
  EXPECT_FALSE(read_tag_message(Message::ready, kProofBytes));
  EXPECT_FALSE(read_tag_message(Message::proof, join({kProofBytes, {0}})));
  for (std::size_t bit = 0; bit < 12 * 8; bit++) {
    Octets changed = kProofBytes;
    changed[bit / 8] ^= static_cast<std::uint8_t>(1U << bit % 8);
    const auto read = read_tag_message(Message::proof, changed);
    const bool is_other = bit == 80 || bit == 81 || bit == 88;  // another type, closing
    EXPECT_EQ(read.has_value(), is_other && changed[10] != 0) << "bit " << bit;
  }
}

TEST(Datagrams, OursAreReadAgain) {
  for (const bool v6 : {false, true}) {
    const Ends ends{policy::Address::parse(v6 ? "fd00::1" : "10.0.0.1").value(),
                    policy::Address::parse(v6 ? "fd00::2" : "10.0.0.2").value(), 40'000, 53};
    PacketBuffer out;
    write_datagram(ends, 0x2C, 0xABCDE, padded(kHelloBytes), out);
    EXPECT_EQ(out.size, (v6 ? 48U : 28U) + kHelloDatagram);
    EXPECT_LE(out.size, kMaxTokenPacket);
    const auto read = Datagram::parse(out.view(), out.size);
    ASSERT_TRUE(read);
    EXPECT_EQ(read->ends(), ends);
    EXPECT_EQ(octets(read->payload()), padded(kHelloBytes));
    EXPECT_EQ(read->traffic_class(), 0x2C);
    EXPECT_EQ(read->flow_label(), v6 ? 0xABCDEU : 0U);
    EXPECT_FALSE(Segment::parse(out.view(), out.size)) << "not TCP";
    // The queue truncates large packets.
    const auto cut = Datagram::parse(out.view().first(100), out.size);
    ASSERT_TRUE(cut);
    EXPECT_FALSE(cut->is_whole());
    EXPECT_EQ(cut->payload_size(), kHelloDatagram);
    PacketBuffer sink;
    write_sink(*read, sink);
    const auto sunk = Datagram::parse(sink.view(), sink.size);
    ASSERT_TRUE(sunk);
    EXPECT_EQ(sunk->ends().destination_port, 0);
    EXPECT_EQ(sunk->payload_size(), 0U);
    PacketBuffer honest;
    write_datagram(sunk->ends(), 0, v6 ? 0xABCDE : 0, {}, honest);
    EXPECT_NE(octets(sink), octets(honest)) << "its checksum is wrong";
  }
}

}  // namespace
}  // namespace trireme::wire
