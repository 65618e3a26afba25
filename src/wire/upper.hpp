// SPDX-License-Identifier: Apache-2.0
// Finds the TCP or UDP header in an IPv4 or IPv6 packet, and reads the fields of its IP header.
#pragma once

#include "trireme/wire/segment.hpp"

namespace trireme::wire {

/// Offset of the TCP or UDP header, and whether an AH header before it signs the packet.
struct Upper {
  std::size_t offset = 0;
  bool is_signed = false;
};

/// `packet` is the first bytes of a packet of `length` bytes. Segment::parse() documents which
/// headers are skipped and which packets are rejected.
[[nodiscard]] tl::expected<Upper, Malformed> find_upper(std::span<const std::uint8_t> packet,
                                                        std::size_t length, std::uint8_t protocol);

/// These read a packet that find_upper() accepted. `offset` is that of its TCP or UDP header, which
/// begins with both ports.
[[nodiscard]] Ends ends_of(std::span<const std::uint8_t> packet, std::size_t offset);
[[nodiscard]] std::uint8_t traffic_class_of(std::span<const std::uint8_t> packet);
[[nodiscard]] std::uint32_t flow_label_of(std::span<const std::uint8_t> packet);

}  // namespace trireme::wire
