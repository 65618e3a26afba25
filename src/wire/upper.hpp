// SPDX-License-Identifier: Apache-2.0
// The way through an IPv4 or IPv6 packet's headers to the protocol that it carries, and what those
// headers say.
#pragma once

#include "trireme/wire/segment.hpp"

namespace trireme::wire {

/// Where the header of the protocol begins, and whether an AH header before it signs the packet.
struct Upper {
  std::size_t offset = 0;
  bool is_signed = false;
};

/// `packet` holds the first bytes of `length`; Segment::parse() says what is followed and what is
/// not.
[[nodiscard]] tl::expected<Upper, Malformed> find_upper(std::span<const std::uint8_t> packet,
                                                        std::size_t length, std::uint8_t protocol);

/// Of a packet that find_upper() took. TCP and UDP begin with both ports.
[[nodiscard]] Ends ends_of(std::span<const std::uint8_t> packet, std::size_t offset);
[[nodiscard]] std::uint8_t traffic_class_of(std::span<const std::uint8_t> packet);
[[nodiscard]] std::uint32_t flow_label_of(std::span<const std::uint8_t> packet);

}  // namespace trireme::wire
