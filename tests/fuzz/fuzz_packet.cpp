// SPDX-License-Identifier: Apache-2.0
// Any bytes as a packet: no crash, and an edit writes a valid packet that differs only where it
// should. The first two bytes of the input (big endian) are the number of bytes of the packet that
// were not copied.
#include <algorithm>
#include <array>
#include <span>

#include "fuzz_support.hpp"
#include "trireme/wire/datagram.hpp"
#include "trireme/wire/segment.hpp"
#include "trireme/wire/token.hpp"

namespace {

using namespace trireme;
using Bytes = std::span<const std::uint8_t>;

bool equal(Bytes left, Bytes right) {
  return std::equal(left.begin(), left.end(), right.begin(), right.end());
}

wire::Segment reparsed(const wire::PacketBuffer& out) {
  const auto segment = wire::Segment::parse(out.view(), out.size);
  fuzz::require(segment.has_value(), "an edited packet can be parsed");
  fuzz::require(segment->is_whole(), "an edited packet is whole");
  return *segment;
}

void check_same(const wire::Segment& before, const wire::Segment& after) {
  fuzz::require(before.ends() == after.ends() && before.tcp_offset() == after.tcp_offset(),
                "an edit does not change the flow");
  fuzz::require(
      before.sequence() == after.sequence() && before.acknowledgement() == after.acknowledgement(),
      "an edit does not change sequence numbers");
  fuzz::require(before.flags() == after.flags() && before.window() == after.window(),
                "an edit does not change flags and window");
  fuzz::require(
      before.traffic_class() == after.traffic_class() && before.flow_label() == after.flow_label(),
      "an edit does not change traffic class and flow label");
  fuzz::require(before.timestamps().has_value() == after.timestamps().has_value() &&
                    before.window_scale() == after.window_scale() &&
                    before.is_signed() == after.is_signed(),
                "an edit does not change other options");
}

void check_attach(const wire::Segment& segment) {
  static constexpr std::array<std::uint8_t, wire::kMaxToken + 1> kToken{0x89, 'T'};
  const std::size_t room = wire::token_room(segment);
  wire::PacketBuffer out;
  fuzz::require(!wire::attach(segment, Bytes(kToken).first(room + 1), out),
                "a token that does not fit is refused");
  if (!wire::attach(segment, Bytes(kToken).first(room), out)) {
    fuzz::require(!segment.is_whole() || room == 0 || segment.packet().size() > out.bytes.size(),
                  "a token that fits is attached");
    return;
  }
  fuzz::require(room == 0 || out.size <= wire::kMaxTokenPacket,
                "a packet with a token has a limited size");
  const auto with_token = reparsed(out);
  check_same(segment, with_token);
  fuzz::require(equal(with_token.payload(), Bytes(kToken).first(room)), "the data is the token");
  wire::PacketBuffer stripped;
  fuzz::require(wire::strip(with_token, stripped), "a token can be stripped");
  wire::PacketBuffer without;
  fuzz::require(wire::attach(segment, {}, without) && equal(without.view(), stripped.view()),
                "strip undoes attach");
}

void check_edits(const wire::Segment& segment) {
  wire::PacketBuffer out;
  if (wire::strip(segment, out)) {
    const auto stripped = reparsed(out);
    check_same(segment, stripped);
    fuzz::require(stripped.payload_size() == 0 && stripped.header_size() == segment.header_size(),
                  "strip keeps the headers");
  }
  if (wire::strip_proof(segment, out)) {
    const auto without = reparsed(out);
    check_same(segment, without);
    fuzz::require(without.header_size() + 20 == segment.header_size() &&
                      equal(without.payload(), segment.payload()),
                  "strip_proof removes only the option");
  }
  wire::write_reset(segment, out);
  const auto reset = reparsed(out);
  fuzz::require(reset.ends() == segment.ends() && reset.sequence() == segment.sequence(),
                "a reset belongs to its flow");
  fuzz::require(reset.flags() == (wire::kRst | wire::kAck) && reset.payload_size() == 0,
                "a reset has the flags RST and ACK and no data");
}

void check_proof(const wire::Segment& segment) {
  static constexpr std::array<std::uint8_t, 16> kTag{1, 2, 3};
  wire::PacketBuffer out;
  wire::write_proof(
      {segment.ends(), segment.sequence(), segment.acknowledgement(), segment.window(),
       segment.timestamps(), segment.traffic_class(), segment.flow_label()},
      kTag, out);
  const auto ack = reparsed(out);
  fuzz::require(ack.ends() == segment.ends() && ack.proof() && equal(*ack.proof(), kTag),
                "a proof can be parsed");
  fuzz::require(ack.timestamps().has_value() == segment.timestamps().has_value(),
                "a proof has timestamps if the connection has");
}

void check_datagram(Bytes packet, std::size_t length) {
  const auto datagram = wire::Datagram::parse(packet, length);
  if (!datagram) {
    return;
  }
  fuzz::require(
      wire::is_datagram(packet, length) && datagram->payload().size() <= datagram->payload_size(),
      "a parsed datagram is recognized as one");
  wire::PacketBuffer out;
  const auto data =
      datagram->payload().first(std::min(datagram->payload().size(), wire::kMaxControl));
  wire::write_datagram(datagram->ends(), datagram->traffic_class(), datagram->flow_label(), data,
                       out);
  const auto ours = wire::Datagram::parse(out.view(), out.size);
  fuzz::require(ours && ours->ends() == datagram->ends() && equal(ours->payload(), data),
                "a written datagram has the same data");
  wire::write_sink(*datagram, out);
  const auto sink = wire::Datagram::parse(out.view(), out.size);
  fuzz::require(sink && sink->ends().destination_port == 0 && sink->payload_size() == 0,
                "a sink is empty and has no port");
}

void check_packet(Bytes packet, std::size_t length) {
  check_datagram(packet, length);
  const auto segment = wire::Segment::parse(packet, length);
  if (!segment) {
    fuzz::require(wire::text(segment.error()) != nullptr, "a malformed packet has a reason");
    return;
  }
  fuzz::require(segment->header_size() <= packet.size(), "the headers were copied");
  fuzz::require(segment->header_size() + segment->payload_size() == length,
                "data is what follows the headers");
  check_attach(*segment);
  check_edits(*segment);
  check_proof(*segment);
}

/// Sets the length in the IP header to `length`, so that the packet passes the check of lengths.
void repair(std::vector<std::uint8_t>& packet, std::size_t length) {
  if (packet.size() < 40) {
    return;
  }
  const bool v6 = packet[0] >> 4U == 6;
  const std::size_t said = v6 ? length - 40 : length;
  const std::size_t field = v6 ? 4 : 2;
  packet[field] = said > 0xFFFF ? 0 : static_cast<std::uint8_t>(said >> 8U);
  packet[field + 1] = said > 0xFFFF ? 0 : static_cast<std::uint8_t>(said);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) {
    return 0;
  }
  const std::size_t more = data[0] * 256U + data[1];
  std::vector<std::uint8_t> packet(data + 2, data + size);
  const std::size_t length = packet.size() + more;
  check_packet(packet, length);
  repair(packet, length);
  check_packet(packet, length);
  return 0;
}
