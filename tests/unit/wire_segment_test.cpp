// SPDX-License-Identifier: Apache-2.0
// Segment::parse() and the accessors of a segment, from known bytes.
#include "wire_support.hpp"

namespace trireme::wire {
namespace {

// A SYN as Linux sends it, from 192.0.2.1:40000 to 198.51.100.2:443: MSS 1460, SACK permitted,
// timestamps, NOP, window scale 7.
const Octets kSynBytes =
    hex("4500003c1234400040063c51 c0000201 c6336402"
        "9c4001bb 01020304 00000000 a002faf0 9c920000"
        "020405b4 0402 080a 00112233 00000000 01 030307");

Malformed why(const Octets& packet, std::size_t length) {
  const Octets exact = packet;  // no bytes after it: the sanitizer detects a read beyond
  const auto segment = Segment::parse(exact, length);
  EXPECT_FALSE(segment);
  return segment ? Malformed{} : segment.error();
}

Malformed why(const Octets& packet) {
  return why(packet, packet.size());
}

Octets with(Octets packet, std::size_t at, unsigned value) {
  packet.at(at) = static_cast<std::uint8_t>(value);
  return packet;
}

Packet v6_packet(std::vector<std::pair<std::uint8_t, Octets>> extensions = {}) {
  Packet packet;
  packet.v6 = true;
  packet.extensions = std::move(extensions);
  return packet;
}

const std::pair<std::uint8_t, Octets> kHopByHop{0, hex("00 050200000100")};  // router alert, PadN
const std::pair<std::uint8_t, Octets> kRouting{
    43, hex("02 0400 00000000 20010db8000000000000000000000009")};  // SRH, at its end
const std::pair<std::uint8_t, Octets> kDestination{60, hex("01 010c000000000000000000000000")};
const std::pair<std::uint8_t, Octets> kAuthentication{
    51, hex("04 0000 00000100 00000001 000102030405060708090a0b")};

TEST(Segment, ReadsAHandWrittenSyn) {
  ASSERT_EQ(faults(kSynBytes, 20), "") << "the bytes above";
  const auto segment = parse(kSynBytes);
  ASSERT_TRUE(segment);
  const Ends ends = segment->ends();
  EXPECT_EQ(ends.source, *policy::Address::parse("192.0.2.1"));
  EXPECT_EQ(ends.destination, *policy::Address::parse("198.51.100.2"));
  EXPECT_EQ(ends.source_port, 40000);
  EXPECT_EQ(ends.destination_port, 443);
  EXPECT_EQ(segment->sequence(), 0x01020304U);
  EXPECT_EQ(segment->acknowledgement(), 0U);
  EXPECT_EQ(segment->flags(), kSyn);
  EXPECT_EQ(segment->window(), 64240);
  EXPECT_EQ(segment->payload_size(), 0U);
  EXPECT_TRUE(segment->payload().empty());
  EXPECT_TRUE(segment->is_whole());
  EXPECT_FALSE(segment->is_v6());
  EXPECT_FALSE(segment->is_signed());
  EXPECT_FALSE(segment->proof());
  EXPECT_EQ(segment->timestamps()->value, 0x00112233U);
  EXPECT_EQ(segment->timestamps()->echo, 0U);
  EXPECT_EQ(segment->window_scale(), 7);
  EXPECT_EQ(segment->tcp_offset(), 20U);
  EXPECT_EQ(segment->header_size(), 60U);
  EXPECT_EQ(segment->traffic_class(), 0);
  EXPECT_EQ(segment->flow_label(), 0U);
  EXPECT_EQ(segment->packet().data(), kSynBytes.data());
}

TEST(Segment, ReadsIpv6) {
  Packet packet = v6_packet();
  packet.traffic_class = 0xB9;
  packet.flow_label = 0xABCDE;
  packet.flags = kSyn | kAck;
  packet.acknowledgement = 0xFFFEFDFC;
  packet.data = hex("aabbcc");
  const Octets bytes = packet.bytes();
  const auto segment = parse(bytes);
  ASSERT_TRUE(segment);
  EXPECT_TRUE(segment->is_v6());
  EXPECT_EQ(segment->ends().source, *policy::Address::parse("2001:db8::1"));
  EXPECT_EQ(segment->ends().destination, *policy::Address::parse("2001:db8::2"));
  EXPECT_EQ(segment->traffic_class(), 0xB9);
  EXPECT_EQ(segment->flow_label(), 0xABCDEU);
  EXPECT_EQ(segment->acknowledgement(), 0xFFFEFDFCU);
  EXPECT_EQ(segment->flags(), kSyn | kAck);
  EXPECT_EQ(octets(segment->payload()), packet.data);
}

TEST(Segment, FollowsExtensionHeaders) {
  const auto plain = v6_packet({kHopByHop, kDestination, kRouting, kDestination}).bytes();
  const auto segment = parse(plain);
  ASSERT_TRUE(segment);
  EXPECT_EQ(segment->tcp_offset(), 40U + 8 + 16 + 24 + 16);
  EXPECT_EQ(segment->ends().destination_port, 443);
  EXPECT_FALSE(segment->is_signed());
  const auto authenticated = v6_packet({kHopByHop, kAuthentication, kDestination}).bytes();
  const auto signed_segment = parse(authenticated);
  ASSERT_TRUE(signed_segment);
  EXPECT_EQ(signed_segment->tcp_offset(), 40U + 8 + 24 + 16);
  EXPECT_TRUE(signed_segment->is_signed());
}

TEST(Segment, FollowsAsManyExtensionHeadersAsThereIsRoomFor) {
  const std::vector<std::pair<std::uint8_t, Octets>> many(180, kHopByHop);
  const auto packet = v6_packet(many).bytes();
  const auto segment = parse(packet);
  ASSERT_TRUE(segment);
  EXPECT_EQ(segment->tcp_offset(), 40U + 180 * 8);
  EXPECT_EQ(token_room(*segment), 0U);
}

TEST(Segment, RefusesExtensionHeadersThatTcpCannotFollow) {
  for (const unsigned type :
       {50U, 59U, 135U, 139U, 140U, 17U, 58U,
        253U}) {  // ESP, none, mobility, HIP, shim6; UDP, ICMPv6; an experiment
    EXPECT_EQ(why(with(v6_packet({kHopByHop}).bytes(), 40, type)), Malformed::no_tcp) << type;
    EXPECT_EQ(why(with(v6_packet().bytes(), 6, type)), Malformed::no_tcp) << type;
  }
  EXPECT_EQ(why(v6_packet({{44, hex("00 0001 12345678")}}).bytes()), Malformed::fragment);
  EXPECT_EQ(why(v6_packet({kHopByHop, {44, hex("00 0000 12345678")}}).bytes()), Malformed::fragment)
      << "also an atomic fragment";
}

TEST(Segment, RefusesSourceRoutesThatGoOn) {
  auto routing = kRouting;
  routing.second[2] = 1;
  EXPECT_EQ(why(v6_packet({routing}).bytes()), Malformed::no_tcp);
  Packet packet;
  for (const char* route :
       {"83 07 04 0a000001 00", "83 07 07 0a000001 00", "01 89 07 04 0a000001", "83 02 00 00"}) {
    packet.ip_options = hex(route);
    EXPECT_EQ(why(packet.bytes()), Malformed::no_tcp) << route;
  }
  for (const char* route : {"83 07 08 0a000001 00", "01 89 03 04"}) {
    packet.ip_options = hex(route);
    EXPECT_TRUE(parse(packet.bytes())) << route;
  }
}

TEST(Segment, SkipsIpv4Options) {
  Packet packet;
  packet.ip_options = hex("94040000 44080501 00000000 01010100");  // router alert, timestamp
  packet.options = hex("01010101");
  const Octets bytes = packet.bytes();
  const auto segment = parse(bytes);
  ASSERT_TRUE(segment);
  EXPECT_EQ(segment->tcp_offset(), 36U);
  EXPECT_EQ(segment->ends().source_port, 40000);
  packet.ip_options = hex("94000000");
  EXPECT_EQ(why(packet.bytes()), Malformed::bad_option);
  packet.ip_options = hex("01019404");
  EXPECT_EQ(why(packet.bytes()), Malformed::bad_option);
}

TEST(Segment, RefusesEveryTruncation) {
  std::vector<Packet> packets(3);
  packets[0].options = hex("020405b4");
  packets[1].ip_options = hex("94040000");
  packets[2] = v6_packet({kHopByHop, kRouting, kAuthentication, kDestination});
  packets[2].options = hex("020405b4");
  for (const auto& packet : packets) {
    const Octets bytes = packet.bytes();
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_EQ(why(slice(bytes, 0, size), bytes.size()), Malformed::truncated)
          << size << " of " << bytes.size();
      EXPECT_NE(why(slice(bytes, 0, size), size), Malformed::bad_option) << size;
    }
  }
}

TEST(Segment, RefusesWhatIsNoIp) {
  for (unsigned version = 0; version < 16; ++version) {
    if (version != 4 && version != 6) {
      EXPECT_EQ(why(with(kSynBytes, 0, version * 16 + 5)), Malformed::no_ip) << version;
    }
  }
  for (unsigned words = 0; words < 5; ++words) {
    EXPECT_EQ(why(with(kSynBytes, 0, 64 + words)), Malformed::no_ip) << words;
  }
}

TEST(Segment, RefusesIpv4Fragments) {
  EXPECT_EQ(why(with(kSynBytes, 6, 0x20)), Malformed::fragment) << "more fragments";
  EXPECT_EQ(why(with(kSynBytes, 6, 0x10)), Malformed::fragment) << "offset";
  EXPECT_EQ(why(with(kSynBytes, 7, 1)), Malformed::fragment) << "offset";
  EXPECT_TRUE(parse(with(kSynBytes, 6, 0)));
}

TEST(Segment, RefusesOtherProtocolsAndShortTcpHeaders) {
  for (const unsigned protocol : {0U, 1U, 17U, 44U, 51U, 132U}) {
    EXPECT_EQ(why(with(kSynBytes, 9, protocol)), Malformed::no_tcp) << protocol;
  }
  for (unsigned words = 0; words < 5; ++words) {
    EXPECT_EQ(why(with(kSynBytes, 32, words * 16)), Malformed::no_tcp) << words;
  }
  EXPECT_EQ(why(with(kSynBytes, 32, 0xB0)), Malformed::truncated);
}

TEST(Segment, RefusesLengthsThatAreNotThePackets) {
  EXPECT_EQ(why(join({kSynBytes, {0}})), Malformed::bad_length) << "padding";
  EXPECT_EQ(why(kSynBytes, kSynBytes.size() - 1), Malformed::bad_length)
      << "more bytes than the packet has";
  EXPECT_EQ(why(with(kSynBytes, 3, 0x3B)), Malformed::bad_length);
  EXPECT_EQ(why(with(with(kSynBytes, 2, 0), 3, 0)), Malformed::bad_length)
      << "0 is valid only for large packets";
  const Octets six = v6_packet().bytes();
  EXPECT_EQ(why(with(six, 5, 21)), Malformed::bad_length);
  EXPECT_EQ(why(with(six, 5, 0)), Malformed::bad_length);
}

TEST(Segment, TakesTheFirstBytesOfALargePacket) {
  Packet packet;
  packet.flags = kAck;
  packet.data = Octets(60000, 7);
  const Octets whole = packet.bytes();
  const Octets copied = slice(whole, 0, 1600);
  const auto segment = Segment::parse(copied, whole.size());
  ASSERT_TRUE(segment);
  EXPECT_EQ(segment->payload_size(), 60000U);
  EXPECT_EQ(segment->payload().size(), 1560U);
  EXPECT_FALSE(segment->is_whole());
}

TEST(Segment, TakesPacketsWhoseLengthDoesNotFitItsField) {
  Packet packet;
  packet.data = Octets(1000, 7);
  for (const bool v6 : {false, true}) {
    packet.v6 = v6;
    const std::size_t field = v6 ? 4 : 2;
    const std::size_t most = v6 ? 65535 + 40 : 65535;
    const Octets zero = with(with(packet.bytes(), field, 0), field + 1, 0);
    const Octets full = with(with(packet.bytes(), field, 0xFF), field + 1, 0xFF);
    EXPECT_TRUE(Segment::parse(full, most));
    EXPECT_EQ(why(zero, most), Malformed::bad_length);
    EXPECT_EQ(why(full, most + 1), Malformed::bad_length);
    const auto large = Segment::parse(zero, 200000);
    ASSERT_TRUE(large);
    EXPECT_EQ(large->payload_size(), 200000U - (v6 ? 60 : 40));
  }
}

TEST(Segment, ReadsEveryTcpOption) {
  Packet packet;
  const auto with_options = [&](const char* options) {
    packet.options = hex(options);
    return packet.bytes();
  };
  for (unsigned kind = 2; kind < 256; ++kind) {
    packet.options = {static_cast<std::uint8_t>(kind), 4, 0, 0};
    const Octets bytes = packet.bytes();
    const auto segment = parse(bytes);
    ASSERT_TRUE(segment) << kind;
    EXPECT_EQ(segment->is_signed(), kind == 19 || kind == 29) << kind;
    EXPECT_FALSE(segment->timestamps() || segment->window_scale() || segment->proof())
        << "another length";
  }
  const Octets md5 = with_options("0101 1312 000102030405060708090a0b0c0d0e0f");
  EXPECT_TRUE(parse(md5)->is_signed());
  const Octets authenticated = with_options("1d10 0001 000102030405060708090a0b");
  EXPECT_TRUE(parse(authenticated)->is_signed());
  const Octets late =
      with_options("050a 00000001 00000002 01 01 080a fffffffe 80000001 03030f 010100");
  EXPECT_EQ(parse(late)->timestamps()->value, 0xFFFFFFFEU);
  EXPECT_EQ(parse(late)->timestamps()->echo, 0x80000001U);
  EXPECT_EQ(parse(late)->window_scale(), 14) << "RFC 7323: more than 14 means 14";
  const Octets ended = with_options("00 080a 00000001 00000002 00");
  EXPECT_FALSE(parse(ended)->timestamps()) << "bytes after the end of options are not options";
}

TEST(Segment, RefusesBadOptions) {
  Packet packet;
  for (const char* options :
       {"02000000", "02010000", "01010102", "02050000", "08ff0000", "030307fd", "fe0001fe"}) {
    packet.options = hex(options);
    EXPECT_EQ(why(packet.bytes()), Malformed::bad_option) << options;
  }
  packet.options = hex("00020000");
  EXPECT_TRUE(parse(packet.bytes())) << "bytes after the end may have any value";
}

TEST(Segment, FindsProof) {
  const Octets tag = hex("000102030405060708090a0b0c0d0e0f");
  Packet packet;
  packet.flags = kAck;
  packet.options = join({hex("0101 080a 00000001 00000002 fd14 5433"), tag});
  const Octets bytes = packet.bytes();
  ASSERT_TRUE(parse(bytes)->proof());
  EXPECT_EQ(octets(*parse(bytes)->proof()), tag);
  for (const char* other : {"fe14 5433", "fd14 5434", "fd14 3354"}) {
    packet.options = join({hex(other), tag});
    EXPECT_FALSE(parse(packet.bytes())->proof()) << other;
  }
  packet.options = join({hex("fd15 5433"), tag, hex("00 010101")});
  EXPECT_FALSE(parse(packet.bytes())->proof()) << "another length";
  packet.options = hex("fd045433");
  EXPECT_FALSE(parse(packet.bytes())->proof()) << "without a tag";
}

TEST(Malformed, HasATextEach) {
  for (const auto malformed : {Malformed::truncated, Malformed::no_ip, Malformed::fragment,
                               Malformed::no_tcp, Malformed::bad_length, Malformed::bad_option}) {
    EXPECT_STRNE(text(malformed), "malformed");
  }
}

}  // namespace
}  // namespace trireme::wire
