// SPDX-License-Identifier: Apache-2.0
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

/// Replaces options that conflict with a token as data: Fast Open sends data of its own in the SYN,
/// and MPTCP counts and authenticates the data.
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

/// The header fields of a segment without data.
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

// NOP, NOP, timestamps: the layout that RFC 7323, appendix A, recommends.
constexpr std::size_t kPaddedTimestamps = 2 + option::kTimestampsSize;

/// Returns the number of bytes written: 0 if the connection has no timestamps.
std::size_t write_timestamps(const OwnSegment& own, std::span<std::uint8_t> out) {
  if (!own.timestamps) {
    return 0;
  }
  out[0] = out[1] = option::kNop;
  out[2] = option::kTimestamps;
  out[3] = option::kTimestampsSize;
  write32(out, 4, own.timestamps->value);
  write32(out, 8, own.timestamps->echo);
  return kPaddedTimestamps;
}

void write_own(const OwnSegment& own, std::uint8_t flags, Bytes options, PacketBuffer& out) {
  write_bare({own.ends, own.sequence, own.acknowledgement, flags, own.window, own.traffic_class,
              own.flow_label},
             options, out);
}

}  // namespace

std::size_t token_room(const Segment& segment) {
  return segment.header_size() < kMaxTokenPacket
             ? std::min(kMaxTokenPacket - segment.header_size(), kMaxToken)
             : 0;
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
  // The data offset counts 32-bit words, of which the option takes 5.
  std::uint8_t& data_offset = out.bytes[segment.tcp_offset() + tcp::kDataOffset];
  data_offset = static_cast<std::uint8_t>(data_offset - (kProofSize / 4 << 4U));
  finish(out, segment.tcp_offset(), kTcp);
  return true;
}

void write_proof(const OwnSegment& own, std::span<const std::uint8_t, 16> tag, PacketBuffer& out) {
  std::array<std::uint8_t, kPaddedTimestamps + kProofSize> options{};
  const std::size_t before = write_timestamps(own, options);
  const auto proof = std::span(options).subspan(before, kProofSize);
  proof[0] = abi::kProofKind;
  proof[1] = kProofSize;
  write16(proof, 2, abi::kProofExid);
  std::copy(tag.begin(), tag.end(), proof.begin() + kProofPrefix);
  write_own(own, kAck, std::span(options).first(before + kProofSize), out);
}

void write_syn_ack(const OwnSegment& own, PacketBuffer& out) {
  std::array<std::uint8_t, kPaddedTimestamps> options{};
  const std::size_t size = write_timestamps(own, options);
  write_own(own, kSyn | kAck, std::span(options).first(size), out);
}

void write_refusal(const OwnSegment& own, std::span<const std::uint8_t> data, PacketBuffer& out) {
  write_own(own, kRst | kAck, {}, out);
  const std::size_t tcp = out.size - kTcpHeader;
  append(out, data);
  finish(out, tcp, kTcp);
}

void write_reset(const Segment& segment, PacketBuffer& out) {
  write_bare({segment.ends(), segment.sequence(), segment.acknowledgement(), kRst | kAck, 0,
              segment.traffic_class(), segment.flow_label()},
             {}, out);
}

}  // namespace trireme::wire
