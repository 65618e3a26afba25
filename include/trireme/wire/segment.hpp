// SPDX-License-Identifier: Apache-2.0
// A TCP segment in an IPv4 or IPv6 packet: a bounds-checked view, and the edits that tokens need.
//
// Views point into the packet that they were parsed from. Edits write a complete new packet with
// valid lengths and checksums, as nfnetlink_queue requires, into a buffer other than the one that
// they read. Nothing here allocates.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include <tl/expected.hpp>

#include "trireme/policy/address.hpp"

namespace trireme::wire {

/// Largest packet that carries a token, in bytes: the minimum MTU of IPv6 (RFC 8200, section 5).
inline constexpr std::size_t kMaxTokenPacket = 1280;

/// TCP flags (RFC 9293, section 3.1).
enum TcpFlag : std::uint8_t {
  kFin = 1,
  kSyn = 2,
  kRst = 4,
  kPsh = 8,
  kAck = 16,
  kUrg = 32,
  kEce = 64,
  kCwr = 128
};

enum class Malformed : std::uint8_t {
  truncated,  // a header extends beyond the packet
  no_ip,      // the version is neither 4 nor 6, or the header length is below the minimum
  fragment,   // part of a larger packet; conntrack reassembles fragments before our hooks
  no_tcp,  // another protocol, an unknown IPv6 extension header, a source route that is not at its
           // end, or a data offset below 5
  bad_length,  // the length in the IP header is not that of the packet
  bad_option,  // an IPv4 or TCP option has length 0 or 1, or extends beyond the header
};
[[nodiscard]] const char* text(Malformed malformed);

/// Addresses and ports of one packet. Ports are in host byte order.
struct Ends {
  policy::Address source;
  policy::Address destination;
  std::uint16_t source_port = 0;
  std::uint16_t destination_port = 0;
  auto operator<=>(const Ends&) const = default;
};

/// The TCP timestamps option (RFC 7323), in host byte order.
struct Timestamps {
  std::uint32_t value = 0;
  std::uint32_t echo = 0;
};

class Segment {
 public:
  /// `packet` starts with the IP header. It may be only the first bytes of the packet, if the queue
  /// copied no more, but must include all headers with their options. `length` is the size of the
  /// whole packet in bytes. Hop-by-hop, routing, destination and AH extension headers are skipped.
  /// If the length exceeds 16 bits, the field in the IP header must be 0. A source route (RFC 791;
  /// RFC 8200, section 4.4) must be at its end, because otherwise the destination is not the one
  /// that ends() returns. Checksums are not verified: the kernel has done so, or has yet to
  /// complete them.
  [[nodiscard]] static tl::expected<Segment, Malformed> parse(std::span<const std::uint8_t> packet,
                                                              std::size_t length);

  [[nodiscard]] Ends ends() const;
  [[nodiscard]] std::uint32_t sequence() const;  // host byte order, like all numbers here
  [[nodiscard]] std::uint32_t acknowledgement() const;
  [[nodiscard]] std::uint8_t flags() const;
  [[nodiscard]] std::uint16_t window() const;
  /// Size of the data on the wire, in bytes. payload() is the part of them that the queue copied.
  [[nodiscard]] std::size_t payload_size() const;
  [[nodiscard]] std::span<const std::uint8_t> payload() const;
  [[nodiscard]] bool is_whole() const { return packet_.size() == length_; }

  [[nodiscard]] std::optional<Timestamps> timestamps() const;
  [[nodiscard]] std::optional<std::uint8_t> window_scale() const;  // 0 to 14
  /// Whether the segment is signed with TCP MD5 (RFC 2385), TCP-AO (RFC 5925) or IPv6 AH (RFC
  /// 4302). Segments of such a connection cannot be added or changed.
  [[nodiscard]] bool is_signed() const;
  /// The 16-byte tag of the first PROOF option (abi::kProofKind, abi::kProofExid); nullopt if there
  /// is none.
  [[nodiscard]] std::optional<std::span<const std::uint8_t, 16>> proof() const;

  [[nodiscard]] std::span<const std::uint8_t> packet() const { return packet_; }
  [[nodiscard]] bool is_v6() const { return v6_; }
  [[nodiscard]] std::uint8_t traffic_class() const;  // TOS or traffic class
  [[nodiscard]] std::uint32_t flow_label() const;    // IPv6, 20 bits; 0 for IPv4
  [[nodiscard]] std::size_t tcp_offset() const { return tcp_; }
  [[nodiscard]] std::size_t header_size() const {
    return payload_;
  }  // IP and TCP headers with their options, in bytes

 private:
  Segment() = default;
  [[nodiscard]] std::span<const std::uint8_t> options() const;

  std::span<const std::uint8_t> packet_;
  std::size_t length_ = 0;
  std::size_t tcp_ = 0;      // offset of the TCP header
  std::size_t payload_ = 0;  // offset of the data
  bool v6_ = false;
  bool authenticated_ = false;  // by AH
};

/// A buffer for the packet that an edit writes. It is larger than what the queue copies. An edit
/// fails for a packet that is larger than the buffer.
// NOLINTNEXTLINE(cppcoreguidelines-pro-type-member-init): not zeroed for every packet
struct PacketBuffer {
  std::array<std::uint8_t, 2048> bytes;
  std::size_t size = 0;
  [[nodiscard]] std::span<const std::uint8_t> view() const { return {bytes.data(), size}; }
};

/// Largest token, in bytes, that can replace the data of this segment without the packet exceeding
/// kMaxTokenPacket.
[[nodiscard]] std::size_t token_room(const Segment& segment);

/// Writes the segment with `token` in place of its data. Options that conflict with a token are
/// replaced by padding (NOP): Fast Open (34, and 254 with ExID 0xF989) and MPTCP (30). Returns
/// false and leaves `out` unchanged if the token does not fit or the segment is not whole.
[[nodiscard]] bool attach(const Segment& segment, std::span<const std::uint8_t> token,
                          PacketBuffer& out);
/// Writes the segment without data. Returns false if the segment is not whole.
[[nodiscard]] bool strip(const Segment& segment, PacketBuffer& out);
/// Writes the segment without its PROOF option; other options are unchanged. Returns false if it
/// has no such option or is not whole.
[[nodiscard]] bool strip_proof(const Segment& segment, PacketBuffer& out);

/// A segment that the verifier sends on behalf of its own host's TCP: the acknowledgement with
/// PROOF for a client, a SYN-ACK or a reset for a server. Numbers are in host byte order.
struct OwnSegment {
  Ends ends;  // as this host sends; a client's are before any NAT; both of one family
  std::uint32_t sequence = 0;
  std::uint32_t acknowledgement = 0;
  std::uint16_t window = 0;              // as in the header, that is, after scaling
  std::optional<Timestamps> timestamps;  // if the connection uses them
  std::uint8_t traffic_class = 0;
  std::uint32_t flow_label = 0;  // IPv6
};
/// Writes an acknowledgement without data that carries the timestamps and the PROOF option. TTL 64,
/// don't-fragment, not ECN-capable.
void write_proof(const OwnSegment& own, std::span<const std::uint8_t, 16> tag, PacketBuffer& out);
/// Writes a SYN-ACK with no option but the timestamps, for a client that has received the first
/// one.
void write_syn_ack(const OwnSegment& own, PacketBuffer& out);
/// Writes a reset with `data` (at most kMaxToken bytes) that answers a SYN.
void write_refusal(const OwnSegment& own, std::span<const std::uint8_t> data, PacketBuffer& out);

/// Writes a reset that replaces `segment`, a SYN-ACK, and that the client accepts (RFC 9293,
/// section 3.10.7.3). It has no data, TCP options, IPv4 options or IPv6 extension headers.
void write_reset(const Segment& segment, PacketBuffer& out);

}  // namespace trireme::wire
