// SPDX-License-Identifier: Apache-2.0
// A TCP segment in an IPv4 or IPv6 packet: a bounds-checked view, and the few edits that tokens
// need.
//
// Views point into the packet that they were parsed from. Edits write a whole new packet with valid
// lengths and checksums, as nfnetlink_queue wants it, into another buffer than the one that they
// read; nothing here allocates.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include <tl/expected.hpp>

#include "trireme/policy/address.hpp"

namespace trireme::wire {

/// Largest packet that carries a token: the minimum MTU of IPv6 (RFC 8200, section 5).
inline constexpr std::size_t kMaxTokenPacket = 1280;

/// PROOF is a TCP option of this kind with this experiment identifier, `T3` (RFC 6994).
inline constexpr std::uint8_t kProofKind = 253;
inline constexpr std::uint16_t kProofExid = 0x5433;

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
  truncated,  // a header goes beyond the packet
  no_ip,      // neither version 4 nor 6, or a header length below the minimum
  fragment,   // part of a larger packet; conntrack reassembles them before our hooks
  no_tcp,  // another protocol, an IPv6 extension header that TCP cannot follow, a source route that
           // goes on, a data offset below 5
  bad_length,  // the IP header's length is not the packet's
  bad_option,  // an IPv4 or TCP option of length 0 or 1, or one beyond the header
};
[[nodiscard]] const char* text(Malformed malformed);

/// The flow as one packet says it; ports in host order.
struct Ends {
  policy::Address source;
  policy::Address destination;
  std::uint16_t source_port = 0;
  std::uint16_t destination_port = 0;
  auto operator<=>(const Ends&) const = default;
};

/// RFC 7323: value, echo; host order.
struct Timestamps {
  std::uint32_t value = 0;
  std::uint32_t echo = 0;
};

class Segment {
 public:
  /// `packet` starts with the IP header and holds at most its first bytes where the queue copied no
  /// more; `length` is the whole packet's. All headers, options included, must be there. Follows
  /// hop-by-hop, routing, destination and AH extension headers. A length beyond 16 bits is 0 in the
  /// IP header. A source route (RFC 791; RFC 8200, section 4.4) must be at its end: else the flow
  /// ends elsewhere than ends() says. Incoming checksums are not looked at: the kernel did, or they
  /// are yet to be completed.
  [[nodiscard]] static tl::expected<Segment, Malformed> parse(std::span<const std::uint8_t> packet,
                                                              std::size_t length);

  [[nodiscard]] Ends ends() const;
  [[nodiscard]] std::uint32_t sequence() const;  // host order, as all numbers here
  [[nodiscard]] std::uint32_t acknowledgement() const;
  [[nodiscard]] std::uint8_t flags() const;
  [[nodiscard]] std::uint16_t window() const;
  /// Bytes of data on the wire; payload() holds those that were copied.
  [[nodiscard]] std::size_t payload_size() const;
  [[nodiscard]] std::span<const std::uint8_t> payload() const;
  [[nodiscard]] bool is_whole() const { return packet_.size() == length_; }

  [[nodiscard]] std::optional<Timestamps> timestamps() const;
  [[nodiscard]] std::optional<std::uint8_t> window_scale() const;  // 0 to 14
  /// MD5, TCP-AO (RFC 2385, RFC 5925) or IPv6's AH (RFC 4302): segments are signed, so none can be
  /// added or changed.
  [[nodiscard]] bool is_signed() const;
  /// The 16-byte tag of a PROOF option (kind 253, our ExID); nullopt where there is none.
  [[nodiscard]] std::optional<std::span<const std::uint8_t, 16>> proof() const;

  [[nodiscard]] std::span<const std::uint8_t> packet() const { return packet_; }
  [[nodiscard]] bool is_v6() const { return v6_; }
  [[nodiscard]] std::uint8_t traffic_class() const;  // TOS or traffic class
  [[nodiscard]] std::uint32_t flow_label() const;    // IPv6, 20 bits; 0 for IPv4
  [[nodiscard]] std::size_t tcp_offset() const { return tcp_; }
  [[nodiscard]] std::size_t header_size() const {
    return payload_;
  }  // IP and TCP headers, options included

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

/// Room for one packet that an edit writes: more than the queue copies. A segment of a larger
/// packet is none that an edit takes.
// NOLINTNEXTLINE(cppcoreguidelines-pro-type-member-init): not zeroed for every packet
struct PacketBuffer {
  std::array<std::uint8_t, 2048> bytes;
  std::size_t size = 0;
  [[nodiscard]] std::span<const std::uint8_t> view() const { return {bytes.data(), size}; }
};

/// Bytes of payload that a token may have in this segment's place, so that the packet stays within
/// kMaxTokenPacket.
[[nodiscard]] std::size_t token_room(const Segment& segment);

/// The segment with `token` as its data, in place of any that it has. Options that do not go with
/// it become padding (NOP): Fast Open (34, and 254 with ExID 0xF989) and MPTCP (30). False, and
/// `out` untouched, where it has no room or the segment is not whole, as with all edits.
[[nodiscard]] bool attach(const Segment& segment, std::span<const std::uint8_t> token,
                          PacketBuffer& out);
/// The segment without data. False where it is not whole.
[[nodiscard]] bool strip(const Segment& segment, PacketBuffer& out);
/// The segment without its PROOF option; other options stay as they are. False where it has none or
/// is not whole.
[[nodiscard]] bool strip_proof(const Segment& segment, PacketBuffer& out);

/// What the verifier needs to speak for a TCP of its own end: the acknowledgement that carries
/// PROOF for a client's, a SYN-ACK for a server's.
struct OwnSegment {
  Ends ends;  // as this end sends; a client's before any NAT; both of one family
  std::uint32_t sequence = 0;
  std::uint32_t acknowledgement = 0;
  std::uint16_t window = 0;              // as it stands in the header: scaled down
  std::optional<Timestamps> timestamps;  // where the connection has them
  std::uint8_t traffic_class = 0;
  std::uint32_t flow_label = 0;  // IPv6
};
/// A packet without data, TTL 64, don't-fragment, not ECN-capable, with the timestamps and the
/// option.
void write_proof(const OwnSegment& own, std::span<const std::uint8_t, 16> tag, PacketBuffer& out);
/// The same as a SYN-ACK, without other options: for a client's end that has seen the first one.
void write_syn_ack(const OwnSegment& own, PacketBuffer& out);
/// A reset with data, kMaxToken bytes at most, in answer to a SYN.
void write_refusal(const OwnSegment& own, std::span<const std::uint8_t> data, PacketBuffer& out);

/// A reset in place of `segment`, a SYN-ACK, acceptable to the client that it is for (RFC 9293,
/// section 3.10.7.3): no options, no data, no IPv4 options or IPv6 extension headers.
void write_reset(const Segment& segment, PacketBuffer& out);

}  // namespace trireme::wire
