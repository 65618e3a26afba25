// SPDX-License-Identifier: Apache-2.0
// Offsets and sizes in headers, in bytes: RFC 791, RFC 8200, RFC 9293, RFC 768.
#pragma once

#include <cstddef>
#include <cstdint>

namespace trireme::wire {

// IP protocol and next-header numbers.
inline constexpr std::uint8_t kTcp = 6;
inline constexpr std::uint8_t kUdp = 17;

inline constexpr std::size_t kIpv4Header = 20;  // without options
inline constexpr std::size_t kIpv6Header = 40;
inline constexpr std::size_t kTcpHeader = 20;  // without options

/// Offsets in the IPv4 header.
namespace ipv4 {
inline constexpr std::size_t kTos = 1, kLength = 2, kFragment = 6, kTtl = 8, kProtocol = 9,
                             kChecksum = 10, kSource = 12, kDestination = 16;
inline constexpr std::uint16_t kDontFragment = 0x4000, kMoreOrOffset = 0x3FFF;
}  // namespace ipv4

/// Offsets in the IPv6 header.
namespace ipv6 {
inline constexpr std::size_t kLength = 4, kNextHeader = 6, kHopLimit = 7, kSource = 8,
                             kDestination = 24;
}

/// Offsets in the TCP header.
namespace tcp {
inline constexpr std::size_t kSourcePort = 0, kDestinationPort = 2, kSequence = 4,
                             kAcknowledgement = 8, kDataOffset = 12, kFlags = 13, kWindow = 14,
                             kChecksum = 16;
}

/// The UDP header (RFC 768).
inline constexpr std::size_t kUdpHeader = 8;
namespace udp {
inline constexpr std::size_t kSourcePort = 0, kDestinationPort = 2, kLength = 4, kChecksum = 6;
}

/// TCP options (IANA).
namespace option {
inline constexpr std::uint8_t kNop = 1, kWindowScale = 3, kTimestamps = 8, kMd5 = 19,
                              kAuthentication = 29, kMultipath = 30, kFastOpen = 34,
                              kExperiment = 254;
inline constexpr std::size_t kWindowScaleSize = 3, kTimestampsSize = 10;
inline constexpr std::uint16_t kFastOpenExid =
    0xF989;  // RFC 7413, appendix A: Linux used it before option 34 was assigned
}  // namespace option

}  // namespace trireme::wire
