// SPDX-License-Identifier: Apache-2.0
// A UDP datagram in an IPv4 or IPv6 packet: a bounds-checked view, and the packets that the
// verifier makes of its own.
#pragma once

#include "trireme/wire/segment.hpp"

namespace trireme::wire {

/// Whether the packet is UDP as far as its IP header tells, extension headers followed.
[[nodiscard]] bool is_datagram(std::span<const std::uint8_t> packet, std::size_t length);

class Datagram {
 public:
  /// As Segment::parse(). Malformed::no_tcp: another protocol than UDP. Bytes beyond the UDP length
  /// are none of the datagram's.
  [[nodiscard]] static tl::expected<Datagram, Malformed> parse(std::span<const std::uint8_t> packet,
                                                               std::size_t length);

  [[nodiscard]] Ends ends() const;
  /// Bytes of data on the wire; payload() holds those that were copied.
  [[nodiscard]] std::size_t payload_size() const { return data_size_; }
  [[nodiscard]] std::span<const std::uint8_t> payload() const;
  [[nodiscard]] bool is_whole() const { return packet_.size() == length_; }
  [[nodiscard]] std::size_t length() const { return length_; }  // of the packet
  [[nodiscard]] std::uint8_t traffic_class() const;
  [[nodiscard]] std::uint32_t flow_label() const;  // IPv6; 0 for IPv4

 private:
  Datagram() = default;
  std::span<const std::uint8_t> packet_;
  std::size_t length_ = 0;
  std::size_t udp_ = 0;        // offset of the UDP header
  std::size_t data_size_ = 0;  // by the UDP header
};

/// Largest data that fits a packet of kMaxTokenPacket bytes in either family.
inline constexpr std::size_t kMaxControl = kMaxTokenPacket - 40 - 8;

/// A datagram of our own, TTL 64. `data` is at most kMaxControl.
void write_datagram(const Ends& ends, std::uint8_t traffic_class, std::uint32_t flow_label,
                    std::span<const std::uint8_t> data, PacketBuffer& out);
/// A datagram in place of a received one that no socket is to see, but that conntrack is: empty, to
/// port 0, where nobody listens, with a checksum that does not hold, so that the kernel's UDP drops
/// it without a word.
void write_sink(const Datagram& datagram, PacketBuffer& out);

}  // namespace trireme::wire
