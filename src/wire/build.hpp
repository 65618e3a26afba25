// SPDX-License-Identifier: Apache-2.0
// Builds packets: IP headers, lengths and checksums.
#pragma once

#include "trireme/wire/segment.hpp"

namespace trireme::wire {

/// The contents of an IP header, except lengths and checksum.
struct IpHeader {
  const Ends& ends;
  std::uint8_t protocol;  // TCP or UDP
  std::uint8_t traffic_class;
  std::uint32_t flow_label;  // IPv6
};
/// Writes the IP header, except what finish() writes, and returns its size in bytes. Clears the ECN
/// bits, because the packets are not ECN-capable (RFC 3168, sections 6.1.4 and 6.1.5). TTL 64.
/// Sets don't-fragment only for TCP, which discovers the path's MTU.
std::size_t write_ip(const IpHeader& header, PacketBuffer& out);

/// Fills in lengths and checksums of the packet in `out`. Its TCP or UDP header is at offset
/// `upper`.
void finish(PacketBuffer& out, std::size_t upper, std::uint8_t protocol);

}  // namespace trireme::wire
