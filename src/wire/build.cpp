// SPDX-License-Identifier: Apache-2.0
#include "build.hpp"

#include <algorithm>

#include "bytes.hpp"
#include "layout.hpp"

namespace trireme::wire {
namespace {

/// Adds 16-bit words for a checksum (RFC 1071). The sum over a PacketBuffer cannot overflow.
std::uint32_t add_words(std::span<const std::uint8_t> bytes, std::uint32_t sum) {
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

}  // namespace

std::size_t write_ip(const IpHeader& header, PacketBuffer& out) {
  constexpr std::uint32_t kWithoutEcn = 0xFC;
  constexpr std::uint8_t kTtl = 64;
  const bool v6 = header.ends.source.family == policy::Address::Family::v6;
  const std::span<std::uint8_t> ip(out.bytes.data(), v6 ? kIpv6Header : kIpv4Header);
  std::fill(ip.begin(), ip.end(), std::uint8_t{0});
  const std::uint32_t traffic_class = header.traffic_class & kWithoutEcn;
  if (v6) {
    write32(ip, 0, 6U << 28U | traffic_class << 20U | (header.flow_label & 0xFFFFFU));
    ip[ipv6::kNextHeader] = header.protocol;
    ip[ipv6::kHopLimit] = kTtl;
  } else {
    ip[0] = 4U << 4U | kIpv4Header / 4;
    ip[ipv4::kTos] = static_cast<std::uint8_t>(traffic_class);
    write16(ip, ipv4::kFragment, header.protocol == kTcp ? ipv4::kDontFragment : 0);
    ip[ipv4::kTtl] = kTtl;
    ip[ipv4::kProtocol] = header.protocol;
  }
  const auto place = [&](const policy::Address& address, std::size_t offset) {
    std::copy_n(address.bytes.begin(), v6 ? 16 : 4,
                ip.begin() + static_cast<std::ptrdiff_t>(offset));
  };
  place(header.ends.source, v6 ? ipv6::kSource : ipv4::kSource);
  place(header.ends.destination, v6 ? ipv6::kDestination : ipv4::kDestination);
  return ip.size();
}

void finish(PacketBuffer& out, std::size_t upper, std::uint8_t protocol) {
  const std::span<std::uint8_t> packet(out.bytes.data(), out.size);
  const std::size_t length = out.size - upper;
  std::span<const std::uint8_t> addresses;
  if (packet[0] >> 4U == 6) {
    write16(packet, ipv6::kLength, out.size - kIpv6Header);
    addresses = packet.subspan(ipv6::kSource, 32);
  } else {
    write16(packet, ipv4::kLength, out.size);
    write16(packet, ipv4::kChecksum, 0);
    write16(packet, ipv4::kChecksum, folded(add_words(packet.first(upper), 0)));
    addresses = packet.subspan(ipv4::kSource, 8);
  }
  if (protocol == kUdp) {
    write16(packet, upper + udp::kLength, length);
  }
  const std::size_t checksum = upper + (protocol == kUdp ? udp::kChecksum : tcp::kChecksum);
  write16(packet, checksum, 0);
  const std::uint32_t pseudo_header =
      add_words(addresses, static_cast<std::uint32_t>(length) + protocol);
  const std::uint16_t sum = folded(add_words(packet.subspan(upper), pseudo_header));
  write16(packet, checksum,
          protocol == kUdp && sum == 0 ? 0xFFFF : sum);  // 0 means no checksum (RFC 768)
}

}  // namespace trireme::wire
