// SPDX-License-Identifier: Apache-2.0
// Packets of our own making: IP headers, lengths and checksums.
#pragma once

#include "trireme/wire/segment.hpp"

namespace trireme::wire {

/// What an IP header says, all but its length.
struct IpHeader {
  const Ends& ends;
  std::uint8_t protocol;  // TCP or UDP
  std::uint8_t traffic_class;
  std::uint32_t flow_label;  // IPv6
};
/// Writes the header but for what finish() writes; returns its size. Without congestion
/// notification: what we make is not ECN-capable (RFC 3168, section 6.1.4 and 6.1.5). TTL 64;
/// don't-fragment for TCP alone, which discovers the path's MTU.
std::size_t write_ip(const IpHeader& header, PacketBuffer& out);

/// Lengths and checksums of the packet that `out` holds, whose TCP or UDP header is at `upper`.
void finish(PacketBuffer& out, std::size_t upper, std::uint8_t protocol);

}  // namespace trireme::wire
