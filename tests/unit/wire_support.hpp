// SPDX-License-Identifier: Apache-2.0
// Shared by the wire tests: packets written field by field, and checksums that share no code with
// src/wire.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <initializer_list>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "trireme/wire/segment.hpp"

namespace trireme::wire {

using Octets = std::vector<std::uint8_t>;

inline Octets hex(std::string_view text) {
  Octets octets;
  octets.reserve(text.size() / 2);
  bool half = false;
  for (const char c : text) {
    if (c == ' ') {
      continue;
    }
    const int digit = c <= '9' ? c - '0' : c - 'a' + 10;
    EXPECT_TRUE(digit >= 0 && digit < 16) << text;
    if (half) {
      octets.back() = static_cast<std::uint8_t>(octets.back() * 16 + digit);
    } else {
      octets.push_back(static_cast<std::uint8_t>(digit));
    }
    half = !half;
  }
  EXPECT_FALSE(half) << text;
  return octets;
}

inline Octets join(std::initializer_list<Octets> parts) {
  std::size_t size = 0;
  for (const auto& part : parts) {
    size += part.size();
  }
  Octets all;
  all.reserve(size);
  for (const auto& part : parts) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

inline Octets octets(std::span<const std::uint8_t> bytes) {
  return {bytes.begin(), bytes.end()};
}

inline Octets octets(const PacketBuffer& buffer) {
  return octets(buffer.view());
}

inline Octets number(std::size_t value, unsigned size) {
  Octets result(size);
  for (auto& octet : result) {
    octet = static_cast<std::uint8_t>(value >> (8 * --size));
  }
  return result;
}

/// One's complement sum, byte by byte, with the carry added at once.
inline unsigned ones_sum(const Octets& bytes) {
  unsigned sum = 0;
  unsigned weight = 256;
  for (const std::uint8_t byte : bytes) {
    sum += byte * weight;
    sum -= sum > 65535 ? 65535 : 0;
    weight = 257 - weight;
  }
  return sum;
}

inline Octets slice(const Octets& bytes, std::size_t from, std::size_t size) {
  return {bytes.begin() + static_cast<std::ptrdiff_t>(from),
          bytes.begin() + static_cast<std::ptrdiff_t>(from + size)};
}

/// The bytes that TCP's checksum covers, checksum included. Assumes that a source route is at its
/// end.
inline Octets covered(const Octets& packet, std::size_t tcp) {
  const bool v6 = packet[0] / 16 == 6;
  const Octets segment = slice(packet, tcp, packet.size() - tcp);
  return v6 ? join({slice(packet, 8, 32), number(segment.size(), 4), {0, 0, 0, 6}, segment})
            : join({slice(packet, 12, 8), {0, 6}, number(segment.size(), 2), segment});
}

/// Describes what is wrong with the lengths and checksums of a packet; empty if nothing is. `tcp`
/// is the offset of its TCP header.
inline std::string faults(const Octets& packet, std::size_t tcp) {
  std::string wrong;
  if (packet[0] / 16 == 6) {
    wrong += packet[4] * 256U + packet[5] + 40U == packet.size() ? "" : "IPv6 length ";
  } else {
    wrong += packet[2] * 256U + packet[3] == packet.size() ? "" : "IPv4 length ";
    wrong += ones_sum(slice(packet, 0, (packet[0] % 16U) * 4U)) == 65535 ? "" : "IPv4 checksum ";
  }
  return wrong + (ones_sum(covered(packet, tcp)) == 65535 ? "" : "TCP checksum ");
}

/// The fields of a packet. The defaults are a SYN from 192.0.2.1:40000 or 2001:db8::1 to
/// 198.51.100.2:443 or 2001:db8::2.
struct Packet {
  bool v6 = false;
  std::uint8_t traffic_class = 0;
  std::size_t flow_label = 0;
  Octets ip_options;  // IPv4: a multiple of 4 bytes
  std::vector<std::pair<std::uint8_t, Octets>>
      extensions;  // IPv6: type, and the bytes after the next-header field
  Octets four = {192, 0, 2, 1, 198, 51, 100, 2};  // both addresses
  Octets six = hex("20010db8000000000000000000000001 20010db8000000000000000000000002");
  std::uint16_t source_port = 40000;
  std::uint16_t destination_port = 443;
  std::uint32_t sequence = 0x01020304;
  std::uint32_t acknowledgement = 0;
  std::uint8_t flags = kSyn;
  std::uint16_t window = 64240;
  std::uint16_t urgent = 0;
  Octets options;  // TCP: a multiple of 4 bytes
  Octets data;

  [[nodiscard]] std::size_t tcp_offset() const {
    std::size_t offset = v6 ? 40 : 20 + ip_options.size();
    for (const auto& [type, bytes] : extensions) {
      offset += 1 + bytes.size();
    }
    return offset;
  }

  /// The bytes, with valid lengths and checksums.
  [[nodiscard]] Octets bytes() const {
    Octets packet = join({v6 ? ipv6() : ipv4(), tcp()});
    const std::size_t tcp = tcp_offset();
    if (!v6) {
      put_checksum(packet, 10, ones_sum(slice(packet, 0, tcp)));
    }
    put_checksum(packet, tcp + 16, ones_sum(covered(packet, tcp)));
    return packet;
  }

 private:
  [[nodiscard]] Octets tcp() const {
    EXPECT_TRUE(options.size() % 4 == 0 && options.size() <= 40 && ip_options.size() % 4 == 0 &&
                ip_options.size() <= 40);
    const auto data_offset = static_cast<std::uint8_t>((20 + options.size()) / 4 * 16);
    return join({number(source_port, 2),
                 number(destination_port, 2),
                 number(sequence, 4),
                 number(acknowledgement, 4),
                 {data_offset, flags},
                 number(window, 2),
                 {0, 0},
                 number(urgent, 2),
                 options,
                 data});
  }

  [[nodiscard]] Octets ipv4() const {
    const auto first = static_cast<std::uint8_t>(0x40 + (20 + ip_options.size()) / 4);
    const std::size_t length = tcp_offset() + tcp().size();
    return join(
        {{first, traffic_class}, number(length, 2), hex("1234 4000 4006 0000"), four, ip_options});
  }

  [[nodiscard]] Octets ipv6() const {
    Octets chain;
    for (std::size_t i = 0; i < extensions.size(); ++i) {
      const std::uint8_t next = i + 1 < extensions.size() ? extensions[i + 1].first : 6;
      chain = join({chain, {next}, extensions[i].second});
    }
    const std::size_t first =
        6U << 28U | static_cast<std::size_t>(traffic_class) << 20U | flow_label;
    const std::uint8_t next = extensions.empty() ? 6 : extensions[0].first;
    return join({number(first, 4), number(chain.size() + tcp().size(), 2), {next, 61}, six, chain});
  }

  static void put_checksum(Octets& packet, std::size_t at, unsigned sum) {
    const Octets checksum = number(65535 - sum, 2);
    packet[at] = checksum[0];
    packet[at + 1] = checksum[1];
  }
};

inline tl::expected<Segment, Malformed> parse(const Octets& packet) {
  return Segment::parse(packet, packet.size());
}

/// The number of cases: `few` by default, `many` with TRIREME_LONG=1.
inline int cases(int few, int many) {
  const char* longer = std::getenv("TRIREME_LONG");
  return longer != nullptr && std::string_view(longer) == "1" ? many : few;
}

}  // namespace trireme::wire
