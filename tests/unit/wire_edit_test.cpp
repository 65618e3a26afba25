// SPDX-License-Identifier: Apache-2.0
// The packets that edits write: known bytes, lengths and checksums.
#include "trireme/wire/token.hpp"
#include "wire_support.hpp"

namespace trireme::wire {
namespace {

constexpr std::array<std::uint8_t, 16> kTag = {0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7,
                                               0xA8, 0xA9, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF};
const Octets kTagOctets(kTag.begin(), kTag.end());

Ends ends(bool v6) {
  const auto address = [](const char* text) { return *policy::Address::parse(text); };
  return v6 ? Ends{address("2001:db8::1"), address("2001:db8::2"), 40000, 443}
            : Ends{address("192.0.2.1"), address("198.51.100.2"), 40000, 443};
}

Packet syn(bool v6, const char* options) {
  Packet packet;
  packet.v6 = v6;
  packet.options = hex(options);
  return packet;
}

constexpr const char* kLinuxOptions = "020405b4 0402 080a 00112233 00000000 01 030307";

/// The packet that attach() writes. Fails the test if there is none or it is invalid.
Octets attached(const Octets& packet, const Octets& token) {
  const auto segment = parse(packet);
  EXPECT_TRUE(segment);
  PacketBuffer out;
  EXPECT_TRUE(attach(*segment, token, out));
  EXPECT_EQ(faults(octets(out), segment->tcp_offset()), "");
  return octets(out);
}

TEST(Attach, PutsTheTokenAfterTheHeaders) {
  for (const bool v6 : {false, true}) {
    Packet packet = syn(v6, kLinuxOptions);
    for (const std::size_t size : {0U, 1U, 2U, 699U, 700U}) {
      const Octets token(size, 0x5A);
      const Octets changed = attached(packet.bytes(), token);
      Packet expected = packet;
      expected.data = token;
      EXPECT_EQ(changed, expected.bytes()) << size;
    }
  }
}

TEST(Attach, ReplacesTheData) {
  Packet packet = syn(false, kLinuxOptions);
  packet.data = Octets(333, 1);
  const Octets changed = attached(packet.bytes(), hex("aabb"));
  packet.data = hex("aabb");
  EXPECT_EQ(changed, packet.bytes());
}

TEST(Attach, LeavesFlagsUrgentPointerAndReservedBitsAlone) {
  Packet packet = syn(true, "");
  packet.flags = kSyn | kAck | kPsh | kUrg | kEce | kCwr;
  packet.urgent = 0x1234;
  packet.traffic_class = 0xFF;
  packet.flow_label = 0xFFFFF;
  Octets bytes = packet.bytes();
  bytes[40 + 12] = static_cast<std::uint8_t>(bytes[40 + 12] | 0x0F);  // reserved, and AccECN's AE
  const Octets changed = attached(bytes, hex("00"));
  for (std::size_t i = 0; i < 60; ++i) {
    if (i != 4 && i != 5 && i != 56 && i != 57) {  // length and checksum
      EXPECT_EQ(changed[i], bytes[i]) << i;
    }
  }
}

TEST(Attach, PadsOutFastOpenAndMultipath) {
  const std::pair<const char*, const char*> kinds[] = {
      {"2202 0101", "0101 0101"},  // Fast Open: requests a cookie
      {"220a 0102030405060708 020405b4",
       "01010101010101010101 020405b4"},  // Fast Open: has a cookie
      {"fe0c f989 0102030405060708 0101",
       "010101010101010101010101 0101"},  // Fast Open as an experimental option
      {"fe04 f989 1e0c 0081 0102030405060708",
       "01010101 010101010101010101010101"},      // followed by MP_CAPABLE
      {"1e04 0001 00 2202", "01010101 00 2202"},  // bytes after the end are not options
      {"fe04 f988 fd04 f989 fe02 0101",
       "fe04 f988 fd04 f989 fe02 0101"},  // other experimental options
  };
  for (const bool v6 : {false, true}) {
    for (const auto& [before, after] : kinds) {
      Packet packet = syn(v6, before);
      packet.options.resize((packet.options.size() + 3) / 4 * 4);
      const Octets changed = attached(packet.bytes(), hex("a1a2a3"));
      const std::size_t options = packet.options.size();
      packet.options = hex(after);
      packet.options.resize(options);
      packet.data = hex("a1a2a3");
      EXPECT_EQ(changed, packet.bytes()) << before;
    }
  }
}

TEST(Attach, KeepsThePacketWithinTheMinimumMtu) {
  const auto room_of = [](const Packet& packet) {
    const Octets bytes = packet.bytes();
    const auto segment = parse(bytes);
    EXPECT_TRUE(segment);
    const std::size_t room = token_room(*segment);
    PacketBuffer out;
    out.size = 77;
    EXPECT_FALSE(attach(*segment, Octets(room + 1, 1), out));
    EXPECT_EQ(out.size, 77U) << "unchanged";
    if (room > 0) {
      EXPECT_LE(attached(bytes, Octets(room, 1)).size(), kMaxTokenPacket);
    }
    return room;
  };
  Packet packet = syn(false, "");
  EXPECT_EQ(room_of(packet), kMaxToken) << "with 60 bytes to spare";
  packet.options = Octets(40, 1);
  EXPECT_EQ(room_of(packet), kMaxToken);
  packet.ip_options = Octets(20, 1);
  EXPECT_EQ(room_of(packet), kMaxToken);
  packet.ip_options = Octets(24, 1);
  EXPECT_EQ(room_of(packet), kMaxToken - 4);
  packet = syn(true, "");
  packet.options = Octets(40, 1);
  EXPECT_EQ(room_of(packet), kMaxToken) << "1280 bytes";
  EXPECT_EQ(attached(packet.bytes(), Octets(kMaxToken, 1)).size(), 1280U);
  packet.extensions = {{0, hex("00 010400000000")}};
  EXPECT_EQ(room_of(packet), kMaxToken - 8);
  packet.extensions.assign(147, {0, hex("00 010400000000")});  // 40 + 147 * 8 + 60 = 1276
  EXPECT_EQ(room_of(packet), 4U);
  packet.extensions.resize(148, {0, hex("00 010400000000")});
  EXPECT_EQ(room_of(packet), 0U);
}

TEST(Attach, AnMssOf536IsNoReasonForLess) {
  const Packet packet = syn(false, "02040218");
  const Octets bytes = packet.bytes();
  EXPECT_EQ(token_room(*parse(bytes)), kMaxToken)
      << "the MSS bounds what is sent to its sender, and 1280 fits every IPv6 path";
}

TEST(Strip, UndoesAttach) {
  for (const bool v6 : {false, true}) {
    const Octets bytes = syn(v6, kLinuxOptions).bytes();
    const Octets changed = attached(bytes, Octets(700, 0x5A));
    PacketBuffer out;
    ASSERT_TRUE(strip(*parse(changed), out));
    EXPECT_EQ(octets(out), bytes);
  }
}

TEST(Strip, CompletesPartialChecksums) {
  for (const bool v6 : {false, true}) {
    const Octets bytes = syn(v6, kLinuxOptions).bytes();
    Octets partial = bytes;
    const std::size_t tcp = v6 ? 40 : 20;
    partial[tcp + 16] = partial[tcp + 17] = 0x77;
    PacketBuffer out;
    ASSERT_TRUE(strip(*parse(partial), out));
    EXPECT_EQ(octets(out), bytes);
  }
}

TEST(Edits, TakeWholeSegmentsThatFitOnly) {
  Packet packet;
  packet.flags = kAck;
  packet.options = join({hex("fd14 5433"), kTagOctets});
  for (const bool v6 : {false, true}) {
    packet.v6 = v6;
    const std::size_t header = v6 ? 80 : 60;
    packet.data = Octets(sizeof(PacketBuffer::bytes) - header, 1);
    const Octets fits = packet.bytes();
    packet.data.push_back(1);
    const Octets large = packet.bytes();
    const Octets part = slice(fits, 0, fits.size() - 1);
    PacketBuffer out;
    out.size = 77;
    for (const auto& segment : {*parse(large), *Segment::parse(part, fits.size())}) {
      EXPECT_FALSE(strip(segment, out) || strip_proof(segment, out) ||
                   attach(segment, kTagOctets, out));
      EXPECT_EQ(out.size, 77U);
    }
    const auto segment = parse(fits);
    EXPECT_TRUE(strip(*segment, out) && strip_proof(*segment, out) &&
                attach(*segment, kTagOctets, out));
  }
}

TEST(StripProof, ClosesTheGapWhereverTheOptionStands) {
  const char* around[][2] = {{"", ""},
                             {"0101 080a 00000001 00000002", ""},
                             {"", "0101 080a 00000001 00000002"},
                             {"01", "080a 00000001 00000002 00"},
                             {"0101 050a 00000001 00000002", "fd04 5434"}};
  for (const bool v6 : {false, true}) {
    for (const auto& [before, after] : around) {
      for (const std::size_t data : {0U, 5U}) {
        Packet packet = syn(v6, "");
        packet.flags = kAck;
        packet.data = Octets(data, 0x5A);
        packet.options = join({hex(before), hex("fd14 5433"), kTagOctets, hex(after)});
        const Octets bytes = packet.bytes();
        const auto segment = parse(bytes);
        ASSERT_TRUE(segment && segment->proof());
        PacketBuffer out;
        ASSERT_TRUE(strip_proof(*segment, out));
        packet.options = join({hex(before), hex(after)});
        EXPECT_EQ(octets(out), packet.bytes()) << before << " PROOF " << after;
        EXPECT_FALSE(strip_proof(*parse(octets(out)), out)) << "it has none left";
      }
    }
  }
}

TEST(WriteProof, KnownBytes) {
  OwnSegment ack{ends(false), 0x01020305, 0xA1A2A3A4, 502, Timestamps{0x00112233, 0x44556677},
                 0xBB,        0};
  PacketBuffer out;
  write_proof(ack, kTag, out);
  Octets expected =
      hex("45b8 0048 0000 4000 4006 0000 c0000201 c6336402"
          "9c4001bb 01020305 a1a2a3a4 d010 01f6 0000 0000"
          "0101 080a 00112233 44556677 fd14 5433 a0a1a2a3a4a5a6a7a8a9aaabacadaeaf");
  Octets written = octets(out);
  EXPECT_EQ(faults(written, 20), "");
  written[10] = written[11] = written[36] = written[37] = 0;
  EXPECT_EQ(written, expected);

  ack = {ends(true), 0x01020305, 0xA1A2A3A4, 502, std::nullopt, 0xBB, 0xABCDE};
  write_proof(ack, kTag, out);
  expected =
      hex("6b8abcde 0028 06 40 20010db8000000000000000000000001 20010db8000000000000000000000002"
          "9c4001bb 01020305 a1a2a3a4 a010 01f6 0000 0000"
          "fd14 5433 a0a1a2a3a4a5a6a7a8a9aaabacadaeaf");
  written = octets(out);
  EXPECT_EQ(faults(written, 40), "");
  written[56] = written[57] = 0;
  EXPECT_EQ(written, expected);
}

TEST(WriteProof, IsReadBackAndStripped) {
  for (const bool v6 : {false, true}) {
    for (const bool timestamps : {false, true}) {
      const auto stamps = timestamps ? std::optional(Timestamps{1, 2}) : std::nullopt;
      PacketBuffer out;
      write_proof({ends(v6), 3, 4, 5, stamps, 0, 0}, kTag, out);
      const auto segment = Segment::parse(out.view(), out.size);
      ASSERT_TRUE(segment && segment->proof());
      EXPECT_EQ(segment->ends(), ends(v6));
      EXPECT_EQ(octets(*segment->proof()), kTagOctets);
      EXPECT_EQ(segment->timestamps().has_value(), timestamps);
      EXPECT_EQ(segment->flags(), kAck);
      EXPECT_EQ(segment->payload_size(), 0U);
      PacketBuffer stripped;
      ASSERT_TRUE(strip_proof(*segment, stripped));
      const auto bare = Segment::parse(stripped.view(), stripped.size);
      ASSERT_TRUE(bare);
      EXPECT_FALSE(bare->proof());
      EXPECT_EQ(bare->timestamps().has_value(), timestamps);
      EXPECT_EQ(faults(octets(stripped), segment->tcp_offset()), "");
    }
  }
}

TEST(WriteReset, AnswersInPlaceOfASynAck) {
  Packet packet = syn(false, kLinuxOptions);
  packet.flags = kSyn | kAck | kEce;
  packet.acknowledgement = 0xA1A2A3A4;
  packet.traffic_class = 0x2A;
  packet.ip_options = hex("94040000");
  packet.data = hex("a1a2a3");
  const Octets bytes = packet.bytes();
  PacketBuffer out;
  write_reset(*parse(bytes), out);
  Octets written = octets(out);
  EXPECT_EQ(faults(written, 20), "");
  written[10] = written[11] = written[36] = written[37] = 0;
  EXPECT_EQ(written, hex("4528 0028 0000 4000 4006 0000 c0000201 c6336402"
                         "9c4001bb 01020304 a1a2a3a4 5014 0000 0000 0000"));

  packet.v6 = true;
  packet.flow_label = 0x12345;
  packet.extensions = {{60, hex("00 010400000000")}};
  const Octets six = packet.bytes();
  write_reset(*Segment::parse(slice(six, 0, six.size() - 3), six.size()),
              out);  // need not be whole
  written = octets(out);
  EXPECT_EQ(faults(written, 40), "");
  written[56] = written[57] = 0;
  EXPECT_EQ(
      written,
      hex("62812345 0014 06 40 20010db8000000000000000000000001 20010db8000000000000000000000002"
          "9c4001bb 01020304 a1a2a3a4 5014 0000 0000 0000"));
}

TEST(WriteSynAck, KnownBytes) {
  const OwnSegment own{ends(false), 0x01020305, 0xA1A2A3A4, 502, Timestamps{0x00112233, 0x44556677},
                       0xBB,        0};
  PacketBuffer out;
  write_syn_ack(own, out);
  Octets written = octets(out);
  EXPECT_EQ(faults(written, 20), "");
  written[10] = written[11] = written[36] = written[37] = 0;
  EXPECT_EQ(written, hex("45b8 0034 0000 4000 4006 0000 c0000201 c6336402"
                         "9c4001bb 01020305 a1a2a3a4 8012 01f6 0000 0000"
                         "0101 080a 00112233 44556677"));
  write_syn_ack({ends(true), 1, 2, 3, std::nullopt, 0, 0xABCDE}, out);
  const auto six = Segment::parse(out.view(), out.size);
  ASSERT_TRUE(six);
  EXPECT_EQ(faults(octets(out), 40), "");
  EXPECT_EQ(six->flags(), kSyn | kAck);
  EXPECT_EQ(six->flow_label(), 0xABCDEU);
  EXPECT_EQ(six->header_size(), 60U) << "no options, no data";
}

}  // namespace
}  // namespace trireme::wire
