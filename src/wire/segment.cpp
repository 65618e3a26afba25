#include "trireme/wire/segment.hpp"

#include <algorithm>

#include "bytes.hpp"
#include "layout.hpp"
#include "options.hpp"
#include "proof_option.hpp"

namespace trireme::wire {
namespace {

using Bytes = std::span<const std::uint8_t>;

/// Where a packet's TCP header begins, and whether an AH header before it signs the packet.
struct Upper {
  std::size_t tcp = 0;
  bool is_signed = false;
};
using Found = tl::expected<Upper, Malformed>;

/// A field of 16 bits is 0 where the number does not fit (IPv6 jumbograms, RFC 2675; segmentation offload of both families in Linux).
bool says(std::uint16_t field, std::size_t length) {
  return length > 0xFFFF ? field == 0 : field == length;
}

/// IPv4 options: a source route that goes on (RFC 791, section 3.1) ends elsewhere than the header says.
std::optional<Malformed> check_ipv4_options(Bytes area) {
  constexpr std::uint8_t kLooseRoute = 131, kStrictRoute = 137;
  constexpr std::size_t kPointer = 2;  // from 1 on, at the next address
  OptionWalk walk(area);
  while (walk.next()) {
    const Bytes option = walk.option();
    if ((walk.kind() == kLooseRoute || walk.kind() == kStrictRoute) && (option.size() <= kPointer || option[kPointer] <= option.size())) {
      return Malformed::no_tcp;
    }
  }
  return walk.bad() ? std::optional(Malformed::bad_option) : std::nullopt;
}

Found find_in_ipv4(Bytes packet, std::size_t length) {
  if (packet.size() < kIpv4Header) {
    return tl::unexpected(Malformed::truncated);
  }
  const std::size_t header = (packet[0] & 15U) * 4U;
  if (header < kIpv4Header) {
    return tl::unexpected(Malformed::no_ip);
  }
  if (!says(read16(packet, ipv4::kLength), length)) {
    return tl::unexpected(Malformed::bad_length);
  }
  if (header > packet.size()) {
    return tl::unexpected(Malformed::truncated);
  }
  if ((read16(packet, ipv4::kFragment) & ipv4::kMoreOrOffset) != 0) {
    return tl::unexpected(Malformed::fragment);
  }
  if (packet[ipv4::kProtocol] != kTcp) {
    return tl::unexpected(Malformed::no_tcp);
  }
  if (const auto malformed = check_ipv4_options(packet.subspan(kIpv4Header, header - kIpv4Header))) {
    return tl::unexpected(*malformed);
  }
  return Upper{header, false};
}

/// The extension headers that the kernel's ipv6_ext_hdr() knows, in any order and number, as its connection tracking does.
Found follow_extensions(Bytes packet) {
  constexpr std::uint8_t kHopByHop = 0, kRouting = 43, kFragment = 44, kAuthentication = 51, kDestination = 60;
  constexpr std::size_t kSegmentsLeft = 3;
  Upper upper{kIpv6Header, false};
  std::uint8_t next = packet[ipv6::kNextHeader];
  while (next != kTcp) {
    if (next == kFragment) {
      return tl::unexpected(Malformed::fragment);
    }
    if (next != kHopByHop && next != kRouting && next != kAuthentication && next != kDestination) {
      return tl::unexpected(Malformed::no_tcp);
    }
    if (packet.size() - upper.tcp < 8) {
      return tl::unexpected(Malformed::truncated);
    }
    const Bytes header = packet.subspan(upper.tcp);
    if (next == kRouting && header[kSegmentsLeft] != 0) {  // ends elsewhere than the IPv6 header says
      return tl::unexpected(Malformed::no_tcp);
    }
    const std::size_t size = next == kAuthentication ? (header[1] + 2U) * 4U : (header[1] + 1U) * 8U;
    if (size > header.size()) {
      return tl::unexpected(Malformed::truncated);
    }
    upper.is_signed = upper.is_signed || next == kAuthentication;
    upper.tcp += size;
    next = header[0];
  }
  return upper;
}

Found find_in_ipv6(Bytes packet, std::size_t length) {
  if (packet.size() < kIpv6Header) {
    return tl::unexpected(Malformed::truncated);
  }
  if (!says(read16(packet, ipv6::kLength), length - kIpv6Header)) {
    return tl::unexpected(Malformed::bad_length);
  }
  return follow_extensions(packet);
}

Found find_tcp(Bytes packet, std::size_t length) {
  if (packet.size() > length) {
    return tl::unexpected(Malformed::bad_length);
  }
  if (packet.empty()) {
    return tl::unexpected(Malformed::truncated);
  }
  switch (packet[0] >> 4U) {
    case 4:
      return find_in_ipv4(packet, length);
    case 6:
      return find_in_ipv6(packet, length);
    default:
      return tl::unexpected(Malformed::no_ip);
  }
}

policy::Address address(Bytes packet, std::size_t offset, bool v6) {
  policy::Address result;
  result.family = v6 ? policy::Address::Family::v6 : policy::Address::Family::v4;
  std::copy_n(packet.begin() + static_cast<std::ptrdiff_t>(offset), result.size(), result.bytes.begin());
  return result;
}

/// The first option of this kind and size, or nothing.
std::optional<Bytes> find_option(Bytes options, std::uint8_t kind, std::size_t size) {
  OptionWalk walk(options);
  while (walk.next()) {
    if (walk.kind() == kind && walk.option().size() == size) {
      return walk.option();
    }
  }
  return std::nullopt;
}

}  // namespace

const char* text(Malformed malformed) {
  switch (malformed) {
    case Malformed::truncated:
      return "a header goes beyond the packet";
    case Malformed::no_ip:
      return "no IPv4 or IPv6 header";
    case Malformed::fragment:
      return "a fragment";
    case Malformed::no_tcp:
      return "not TCP, or TCP at the end of a source route";
    case Malformed::bad_length:
      return "the IP header's length is not the packet's";
    case Malformed::bad_option:
      return "an option of impossible length";
  }
  return "malformed";
}

tl::expected<Segment, Malformed> Segment::parse(std::span<const std::uint8_t> packet, std::size_t length) {
  const Found found = find_tcp(packet, length);
  if (!found) {
    return tl::unexpected(found.error());
  }
  if (packet.size() - found->tcp < kTcpHeader) {
    return tl::unexpected(Malformed::truncated);
  }
  const std::size_t header = (packet[found->tcp + tcp::kDataOffset] >> 4U) * 4U;
  if (header < kTcpHeader) {
    return tl::unexpected(Malformed::no_tcp);
  }
  if (header > packet.size() - found->tcp) {
    return tl::unexpected(Malformed::truncated);
  }
  Segment segment;
  segment.packet_ = packet;
  segment.length_ = length;
  segment.tcp_ = found->tcp;
  segment.payload_ = found->tcp + header;
  segment.v6_ = packet[0] >> 4U == 6;
  segment.authenticated_ = found->is_signed;
  OptionWalk walk(segment.options());
  while (walk.next()) {
  }
  if (walk.bad()) {
    return tl::unexpected(Malformed::bad_option);
  }
  return segment;
}

Ends Segment::ends() const {
  return {address(packet_, v6_ ? ipv6::kSource : ipv4::kSource, v6_), address(packet_, v6_ ? ipv6::kDestination : ipv4::kDestination, v6_),
          read16(packet_, tcp_ + tcp::kSourcePort), read16(packet_, tcp_ + tcp::kDestinationPort)};
}

std::uint32_t Segment::sequence() const {
  return read32(packet_, tcp_ + tcp::kSequence);
}

std::uint32_t Segment::acknowledgement() const {
  return read32(packet_, tcp_ + tcp::kAcknowledgement);
}

std::uint8_t Segment::flags() const {
  return packet_[tcp_ + tcp::kFlags];
}

std::uint16_t Segment::window() const {
  return read16(packet_, tcp_ + tcp::kWindow);
}

std::size_t Segment::payload_size() const {
  return length_ - payload_;
}

std::span<const std::uint8_t> Segment::payload() const {
  return packet_.subspan(payload_);
}

std::span<const std::uint8_t> Segment::options() const {
  return packet_.subspan(tcp_ + kTcpHeader, payload_ - tcp_ - kTcpHeader);
}

std::optional<Timestamps> Segment::timestamps() const {
  const auto option = find_option(options(), option::kTimestamps, option::kTimestampsSize);
  return option ? std::optional(Timestamps{read32(*option, 2), read32(*option, 6)}) : std::nullopt;
}

std::optional<std::uint8_t> Segment::window_scale() const {
  constexpr std::uint8_t kMost = 14;  // RFC 7323, section 2.3: more means this
  const auto option = find_option(options(), option::kWindowScale, option::kWindowScaleSize);
  return option ? std::optional(std::min(kMost, (*option)[2])) : std::nullopt;
}

bool Segment::is_signed() const {
  OptionWalk walk(options());
  while (walk.next()) {
    if (walk.kind() == option::kMd5 || walk.kind() == option::kAuthentication) {
      return true;
    }
  }
  return authenticated_;
}

std::optional<std::span<const std::uint8_t, 16>> Segment::proof() const {
  const auto offset = find_proof(options());
  return offset ? std::optional(options().subspan(*offset + kProofPrefix).first<16>()) : std::nullopt;
}

std::uint8_t Segment::traffic_class() const {
  return v6_ ? static_cast<std::uint8_t>((packet_[0] & 15U) << 4U | packet_[1] >> 4U) : packet_[ipv4::kTos];
}

std::uint32_t Segment::flow_label() const {
  return v6_ ? read32(packet_, 0) & 0xFFFFFU : 0;
}

}  // namespace trireme::wire
