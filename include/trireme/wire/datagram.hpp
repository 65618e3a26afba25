// SPDX-License-Identifier: Apache-2.0
// A UDP datagram in an IPv4 or IPv6 packet: a bounds-checked view, and the datagrams that the
// verifier itself sends.
#pragma once

#include "trireme/wire/segment.hpp"

namespace trireme::wire {

/// Whether the IP header, or the last IPv6 extension header, says that the packet is UDP.
[[nodiscard]] bool is_datagram(std::span<const std::uint8_t> packet, std::size_t length);

class Datagram {
 public:
  /// Like Segment::parse(). Malformed::no_tcp here means another protocol than UDP. Bytes beyond
  /// the UDP length are ignored.
  [[nodiscard]] static tl::expected<Datagram, Malformed> parse(std::span<const std::uint8_t> packet,
                                                               std::size_t length);

  [[nodiscard]] Ends ends() const;
  /// Size of the data on the wire, in bytes. payload() is the part of them that the queue copied.
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
  std::size_t data_size_ = 0;  // from the UDP header
};

/// Largest data, in bytes, that fits a packet of kMaxTokenPacket bytes in IPv4 and IPv6.
inline constexpr std::size_t kMaxControl = kMaxTokenPacket - 40 - 8;

/// Writes a datagram of trireme's own, with TTL 64. `data` is at most kMaxControl bytes.
void write_datagram(const Ends& ends, std::uint8_t traffic_class, std::uint32_t flow_label,
                    std::span<const std::uint8_t> data, PacketBuffer& out);
/// Writes a datagram that replaces a received one for conntrack, but that no socket receives. It is
/// empty and goes to port 0. Its checksum is wrong, so that the kernel drops it silently.
void write_sink(const Datagram& datagram, PacketBuffer& out);

}  // namespace trireme::wire
