#include <algorithm>

#include "bytes.hpp"
#include "layout.hpp"
#include "options.hpp"
#include "proof_option.hpp"
#include "trireme/wire/segment.hpp"
#include "trireme/wire/token.hpp"

namespace trireme::wire {
namespace {

using Bytes = std::span<const std::uint8_t>;

/// Adds 16-bit words (RFC 1071); a PacketBuffer's worth of them does not overflow.
std::uint32_t add_words(Bytes bytes, std::uint32_t sum) {
  for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) {
    sum += read16(bytes, i);
  }
  return bytes.size() % 2 == 0 ? sum : sum + (std::uint32_t{bytes.back()} << 8U);
}

std::uint16_t folded(std::uint32_t sum) {
  while (sum > 0xFFFF) {
    sum = (sum & 0xFFFFU) + (sum >> 16U);
  }
  return static_cast<std::uint16_t>(~sum);
}

/// Lengths and checksums of the packet that `out` holds, whose TCP header is at `tcp`.
void finish(PacketBuffer& out, std::size_t tcp) {
  const std::span<std::uint8_t> packet(out.bytes.data(), out.size);
  const std::size_t tcp_length = out.size - tcp;
  Bytes addresses;
  if (packet[0] >> 4U == 6) {
    write16(packet, ipv6::kLength, out.size - kIpv6Header);
    addresses = packet.subspan(ipv6::kSource, 32);
  } else {
    write16(packet, ipv4::kLength, out.size);
    write16(packet, ipv4::kChecksum, 0);
    write16(packet, ipv4::kChecksum, folded(add_words(packet.first(tcp), 0)));
    addresses = packet.subspan(ipv4::kSource, 8);
  }
  write16(packet, tcp + tcp::kChecksum, 0);
  const std::uint32_t pseudo_header = add_words(addresses, static_cast<std::uint32_t>(tcp_length) + kTcp);
  write16(packet, tcp + tcp::kChecksum, folded(add_words(packet.subspan(tcp), pseudo_header)));
}

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

/// Without congestion notification: these segments are not ECN-capable (RFC 3168, section 6.1.4 and 6.1.5).
constexpr std::uint32_t kWithoutEcn = 0xFC;
constexpr std::uint8_t kTtl = 64;

/// Writes the IP header but for what finish() writes; returns its size.
std::size_t write_ip(const Bare& bare, PacketBuffer& out) {
  const bool v6 = bare.ends.source.family == policy::Address::Family::v6;
  const std::span<std::uint8_t> ip(out.bytes.data(), v6 ? kIpv6Header : kIpv4Header);
  std::fill(ip.begin(), ip.end(), std::uint8_t{0});
  const std::uint32_t traffic_class = bare.traffic_class & kWithoutEcn;
  if (v6) {
    write32(ip, 0, 6U << 28U | traffic_class << 20U | (bare.flow_label & 0xFFFFFU));
    ip[ipv6::kNextHeader] = kTcp;
    ip[ipv6::kHopLimit] = kTtl;
  } else {
    ip[0] = 4U << 4U | kIpv4Header / 4;
    ip[ipv4::kTos] = static_cast<std::uint8_t>(traffic_class);
    write16(ip, ipv4::kFragment, ipv4::kDontFragment);
    ip[ipv4::kTtl] = kTtl;
    ip[ipv4::kProtocol] = kTcp;
  }
  const auto place = [&](const policy::Address& address, std::size_t offset) {
    std::copy_n(address.bytes.begin(), v6 ? 16 : 4, ip.begin() + static_cast<std::ptrdiff_t>(offset));
  };
  place(bare.ends.source, v6 ? ipv6::kSource : ipv4::kSource);
  place(bare.ends.destination, v6 ? ipv6::kDestination : ipv4::kDestination);
  return ip.size();
}

void write_bare(const Bare& bare, Bytes options, PacketBuffer& out) {
  const std::size_t tcp = write_ip(bare, out);
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
  finish(out, tcp);
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
  finish(out, segment.tcp_offset());
  return true;
}

bool strip(const Segment& segment, PacketBuffer& out) {
  if (!can_edit(segment)) {
    return false;
  }
  out.size = 0;
  append(out, segment.packet().first(segment.header_size()));
  finish(out, segment.tcp_offset());
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
  finish(out, segment.tcp_offset());
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
