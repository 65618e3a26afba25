#include <algorithm>

#include "build.hpp"
#include "bytes.hpp"
#include "layout.hpp"
#include "options.hpp"
#include "proof_option.hpp"
#include "trireme/wire/segment.hpp"
#include "trireme/wire/token.hpp"

namespace trireme::wire {
namespace {

using Bytes = std::span<const std::uint8_t>;

bool can_edit(const Segment& segment) {
  return segment.is_whole() && segment.packet().size() <= sizeof(PacketBuffer::bytes);
}

void append(PacketBuffer& out, Bytes bytes) {
  std::copy(bytes.begin(), bytes.end(), out.bytes.begin() + static_cast<std::ptrdiff_t>(out.size));
  out.size += bytes.size();
}

/// Fast Open asks for data of its own in the SYN; MPTCP counts and signs the data.
void pad_out_what_needs_data(std::span<std::uint8_t> options) {
  OptionWalk walk(options);
  while (walk.next()) {
    if (walk.kind() == option::kFastOpen || walk.kind() == option::kMultipath ||
        walk.is_experiment(option::kExperiment, option::kFastOpenExid)) {
      const auto place = options.subspan(walk.offset(), walk.option().size());
      std::fill(place.begin(), place.end(), option::kNop);
    }
  }
}

/// A segment without data, all but its options.
struct Bare {
  const Ends& ends;
  std::uint32_t sequence;
  std::uint32_t acknowledgement;
  std::uint8_t flags;
  std::uint16_t window;
  std::uint8_t traffic_class;
  std::uint32_t flow_label;
};

void write_bare(const Bare& bare, Bytes options, PacketBuffer& out) {
  const std::size_t tcp = write_ip({bare.ends, kTcp, bare.traffic_class, bare.flow_label}, out);
  const std::span<std::uint8_t> header(out.bytes.data() + tcp, kTcpHeader);
  std::fill(header.begin(), header.end(), std::uint8_t{0});
  write16(header, tcp::kSourcePort, bare.ends.source_port);
  write16(header, tcp::kDestinationPort, bare.ends.destination_port);
  write32(header, tcp::kSequence, bare.sequence);
  write32(header, tcp::kAcknowledgement, bare.acknowledgement);
  header[tcp::kDataOffset] = static_cast<std::uint8_t>((kTcpHeader + options.size()) / 4 << 4U);
  header[tcp::kFlags] = bare.flags;
  write16(header, tcp::kWindow, bare.window);
  out.size = tcp + kTcpHeader;
  append(out, options);
  finish(out, tcp, kTcp);
}

}  // namespace

std::size_t token_room(const Segment& segment) {
  return segment.header_size() < kMaxTokenPacket ? std::min(kMaxTokenPacket - segment.header_size(), kMaxToken) : 0;
}

bool attach(const Segment& segment, std::span<const std::uint8_t> token, PacketBuffer& out) {
  if (!can_edit(segment) || token.size() > token_room(segment)) {
    return false;
  }
  out.size = 0;
  append(out, segment.packet().first(segment.header_size()));
  const std::size_t options = segment.tcp_offset() + kTcpHeader;
  pad_out_what_needs_data(std::span(out.bytes).subspan(options, segment.header_size() - options));
  append(out, token);
  finish(out, segment.tcp_offset(), kTcp);
  return true;
}

bool strip(const Segment& segment, PacketBuffer& out) {
  if (!can_edit(segment)) {
    return false;
  }
  out.size = 0;
  append(out, segment.packet().first(segment.header_size()));
  finish(out, segment.tcp_offset(), kTcp);
  return true;
}

bool strip_proof(const Segment& segment, PacketBuffer& out) {
  const auto proof = segment.proof();
  if (!can_edit(segment) || !proof) {
    return false;
  }
  const Bytes packet = segment.packet();
  const auto start = static_cast<std::size_t>(proof->data() - packet.data()) - kProofPrefix;
  out.size = 0;
  append(out, packet.first(start));
  append(out, packet.subspan(start + kProofSize));
  // The option is 5 of the words that the data offset counts.
  std::uint8_t& data_offset = out.bytes[segment.tcp_offset() + tcp::kDataOffset];
  data_offset = static_cast<std::uint8_t>(data_offset - (kProofSize / 4 << 4U));
  finish(out, segment.tcp_offset(), kTcp);
  return true;
}

void write_proof(const ProofAck& ack, std::span<const std::uint8_t, 16> tag, PacketBuffer& out) {
  // NOP NOP TS as RFC 7323, appendix A, advises; then PROOF.
  constexpr std::size_t kWithPadding = 2 + option::kTimestampsSize;
  std::array<std::uint8_t, kWithPadding + kProofSize> options{option::kNop, option::kNop, option::kTimestamps, option::kTimestampsSize};
  const auto proof = std::span(options).subspan(kWithPadding);
  if (ack.timestamps) {
    write32(options, 4, ack.timestamps->value);
    write32(options, 8, ack.timestamps->echo);
  }
  proof[0] = kProofKind;
  proof[1] = kProofSize;
  write16(proof, 2, kProofExid);
  std::copy(tag.begin(), tag.end(), proof.begin() + kProofPrefix);
  write_bare({ack.ends, ack.sequence, ack.acknowledgement, kAck, ack.window, ack.traffic_class, ack.flow_label},
             ack.timestamps ? std::span(options) : proof, out);
}

void write_request(const Segment& segment, std::uint32_t sequence, PacketBuffer& out) {
  write_bare({segment.ends(), sequence, 0, kSyn, segment.window(), segment.traffic_class(), segment.flow_label()}, {}, out);
}

void write_reset(const Segment& segment, PacketBuffer& out) {
  write_bare({segment.ends(), segment.sequence(), segment.acknowledgement(), kRst | kAck, 0, segment.traffic_class(), segment.flow_label()},
             {}, out);
}

}  // namespace trireme::wire
