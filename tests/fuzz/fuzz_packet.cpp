// SPDX-License-Identifier: Apache-2.0
// Any bytes as a packet: no crash, and what an edit writes is a valid packet that says the same.
// The first two bytes are how many more bytes the packet had than were copied.
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
  fuzz::require(segment.has_value(), "an edit's packet is read again");
  fuzz::require(segment->is_whole(), "an edit's packet is whole");
  return *segment;
}

void check_same(const wire::Segment& before, const wire::Segment& after) {
  fuzz::require(before.ends() == after.ends() && before.tcp_offset() == after.tcp_offset(),
                "an edit leaves the flow as it was");
  fuzz::require(
      before.sequence() == after.sequence() && before.acknowledgement() == after.acknowledgement(),
      "an edit leaves numbers alone");
  fuzz::require(before.flags() == after.flags() && before.window() == after.window(),
                "an edit leaves flags and window alone");
  fuzz::require(
      before.traffic_class() == after.traffic_class() && before.flow_label() == after.flow_label(),
      "an edit leaves class and label alone");
  fuzz::require(before.timestamps().has_value() == after.timestamps().has_value() &&
                    before.window_scale() == after.window_scale() &&
                    before.is_signed() == after.is_signed(),
                "an edit leaves other options alone");
}

void check_attach(const wire::Segment& segment) {
  static constexpr std::array<std::uint8_t, wire::kMaxToken + 1> kToken{0x89, 'T'};
  const std::size_t room = wire::token_room(segment);
  wire::PacketBuffer out;
  fuzz::require(!wire::attach(segment, Bytes(kToken).first(room + 1), out),
                "a token that has no room is refused");
  if (!wire::attach(segment, Bytes(kToken).first(room), out)) {
    fuzz::require(!segment.is_whole() || room == 0 || segment.packet().size() > out.bytes.size(),
                  "a token that has room is taken");
    return;
  }
  fuzz::require(room == 0 || out.size <= wire::kMaxTokenPacket, "a token's packet is small");
  const auto with_token = reparsed(out);
  check_same(segment, with_token);
  fuzz::require(equal(with_token.payload(), Bytes(kToken).first(room)), "the token is the data");
  wire::PacketBuffer stripped;
  fuzz::require(wire::strip(with_token, stripped), "a token is stripped");
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
                  "strip leaves the headers");
  }
  if (wire::strip_proof(segment, out)) {
    const auto without = reparsed(out);
    check_same(segment, without);
    fuzz::require(without.header_size() + 20 == segment.header_size() &&
                      equal(without.payload(), segment.payload()),
                  "strip_proof takes the option alone");
  }
  wire::write_reset(segment, out);
  const auto reset = reparsed(out);
  fuzz::require(reset.ends() == segment.ends() && reset.sequence() == segment.sequence(),
                "a reset is of its flow");
  fuzz::require(reset.flags() == (wire::kRst | wire::kAck) && reset.payload_size() == 0,
                "a reset is one");
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
                "a proof is read again");
  fuzz::require(ack.timestamps().has_value() == segment.timestamps().has_value(),
                "a proof has timestamps where the connection has");
}

void check_datagram(Bytes packet, std::size_t length) {
  const auto datagram = wire::Datagram::parse(packet, length);
  if (!datagram) {
    return;
  }
  fuzz::require(
      wire::is_datagram(packet, length) && datagram->payload().size() <= datagram->payload_size(),
      "a datagram is one");
  wire::PacketBuffer out;
  const auto data =
      datagram->payload().first(std::min(datagram->payload().size(), wire::kMaxControl));
  wire::write_datagram(datagram->ends(), datagram->traffic_class(), datagram->flow_label(), data,
                       out);
  const auto ours = wire::Datagram::parse(out.view(), out.size);
  fuzz::require(ours && ours->ends() == datagram->ends() && equal(ours->payload(), data),
                "our datagram says the same");
  wire::write_sink(*datagram, out);
  const auto sink = wire::Datagram::parse(out.view(), out.size);
  fuzz::require(sink && sink->ends().destination_port == 0 && sink->payload_size() == 0,
                "a sink is empty and nobody's");
}

void check_packet(Bytes packet, std::size_t length) {
  check_datagram(packet, length);
  const auto segment = wire::Segment::parse(packet, length);
  if (!segment) {
    fuzz::require(wire::text(segment.error()) != nullptr, "a malformed packet has a reason");
    return;
  }
  fuzz::require(segment->header_size() <= packet.size(), "the headers are there");
  fuzz::require(segment->header_size() + segment->payload_size() == length,
                "data is what follows the headers");
  check_attach(*segment);
  check_edits(*segment);
  check_proof(*segment);
}

/// The packet with the length that its IP header should have, so that the rest is reached.
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
