// SPDX-License-Identifier: Apache-2.0
#include "upper.hpp"

#include <algorithm>

#include "bytes.hpp"
#include "layout.hpp"
#include "options.hpp"

namespace trireme::wire {
namespace {

using Bytes = std::span<const std::uint8_t>;
using Found = tl::expected<Upper, Malformed>;

/// Whether a 16-bit length field matches. A length that does not fit is written as 0 (IPv6
/// jumbograms, RFC 2675; Linux segmentation offload in both families).
bool says(std::uint16_t field, std::size_t length) {
  return length > 0xFFFF ? field == 0 : field == length;
}

/// Rejects a source route that is not at its end (RFC 791, section 3.1), because the packet's
/// destination is then not the one in the header.
std::optional<Malformed> check_ipv4_options(Bytes area) {
  constexpr std::uint8_t kLooseRoute = 131;
  constexpr std::uint8_t kStrictRoute = 137;
  constexpr std::size_t kPointer =
      2;  // offset of the pointer, which counts from 1, to the next address
  OptionWalk walk(area);
  while (walk.next()) {
    const Bytes option = walk.option();
    if ((walk.kind() == kLooseRoute || walk.kind() == kStrictRoute) &&
        (option.size() <= kPointer || option[kPointer] <= option.size())) {
      return Malformed::no_tcp;
    }
  }
  return walk.bad() ? std::optional(Malformed::bad_option) : std::nullopt;
}

Found find_in_ipv4(Bytes packet, std::size_t length, std::uint8_t protocol) {
  if (packet.size() < kIpv4Header) {
    return tl::unexpected(Malformed::truncated);
  }
  const std::size_t header = (packet[0] & 15U) * std::size_t{4};
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
  if (packet[ipv4::kProtocol] != protocol) {
    return tl::unexpected(Malformed::no_tcp);
  }
  if (const auto malformed =
          check_ipv4_options(packet.subspan(kIpv4Header, header - kIpv4Header))) {
    return tl::unexpected(*malformed);
  }
  return Upper{header, false};
}

/// Skips the extension headers that the kernel's ipv6_ext_hdr() knows, in any order and number, as
/// connection tracking does.
Found follow_extensions(Bytes packet, std::uint8_t protocol) {
  constexpr std::uint8_t kHopByHop = 0;
  constexpr std::uint8_t kRouting = 43;
  constexpr std::uint8_t kFragment = 44;
  constexpr std::uint8_t kAuthentication = 51;
  constexpr std::uint8_t kDestination = 60;
  constexpr std::size_t kSegmentsLeft = 3;
  Upper upper{kIpv6Header, false};
  std::uint8_t next = packet[ipv6::kNextHeader];
  while (next != protocol) {
    if (next == kFragment) {
      return tl::unexpected(Malformed::fragment);
    }
    if (next != kHopByHop && next != kRouting && next != kAuthentication && next != kDestination) {
      return tl::unexpected(Malformed::no_tcp);
    }
    if (packet.size() - upper.offset < 8) {
      return tl::unexpected(Malformed::truncated);
    }
    const Bytes header = packet.subspan(upper.offset);
    if (next == kRouting &&
        header[kSegmentsLeft] != 0) {  // the destination is not the one in the IPv6 header
      return tl::unexpected(Malformed::no_tcp);
    }
    const std::size_t size =
        next == kAuthentication ? (header[1] + 2U) * 4U : (header[1] + 1U) * 8U;
    if (size > header.size()) {
      return tl::unexpected(Malformed::truncated);
    }
    upper.is_signed = upper.is_signed || next == kAuthentication;
    upper.offset += size;
    next = header[0];
  }
  return upper;
}

Found find_in_ipv6(Bytes packet, std::size_t length, std::uint8_t protocol) {
  if (packet.size() < kIpv6Header) {
    return tl::unexpected(Malformed::truncated);
  }
  if (!says(read16(packet, ipv6::kLength), length - kIpv6Header)) {
    return tl::unexpected(Malformed::bad_length);
  }
  return follow_extensions(packet, protocol);
}

policy::Address address_at(Bytes packet, std::size_t offset, bool v6) {
  policy::Address result;
  result.family = v6 ? policy::Address::Family::v6 : policy::Address::Family::v4;
  std::copy_n(packet.begin() + static_cast<std::ptrdiff_t>(offset), result.size(),
              result.bytes.begin());
  return result;
}

}  // namespace

tl::expected<Upper, Malformed> find_upper(Bytes packet, std::size_t length, std::uint8_t protocol) {
  if (packet.size() > length) {
    return tl::unexpected(Malformed::bad_length);
  }
  if (packet.empty()) {
    return tl::unexpected(Malformed::truncated);
  }
  switch (packet[0] >> 4U) {
    case 4:
      return find_in_ipv4(packet, length, protocol);
    case 6:
      return find_in_ipv6(packet, length, protocol);
    default:
      return tl::unexpected(Malformed::no_ip);
  }
}

Ends ends_of(Bytes packet, std::size_t offset) {
  const bool v6 = packet[0] >> 4U == 6;
  return {address_at(packet, v6 ? ipv6::kSource : ipv4::kSource, v6),
          address_at(packet, v6 ? ipv6::kDestination : ipv4::kDestination, v6),
          read16(packet, offset), read16(packet, offset + 2)};
}

std::uint8_t traffic_class_of(Bytes packet) {
  const bool v6 = packet[0] >> 4U == 6;
  return v6 ? static_cast<std::uint8_t>((packet[0] & 15U) << 4U | packet[1] >> 4U)
            : packet[ipv4::kTos];
}

std::uint32_t flow_label_of(Bytes packet) {
  return packet[0] >> 4U == 6 ? read32(packet, 0) & 0xFFFFFU : 0;
}

}  // namespace trireme::wire
