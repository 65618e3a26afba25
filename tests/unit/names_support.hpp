// SPDX-License-Identifier: Apache-2.0
// Builds DNS messages and the packets that carry them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/policy/address.hpp"

namespace trireme::names {

using Bytes = std::vector<std::uint8_t>;

inline void put16(Bytes& bytes, unsigned value) {
  bytes.push_back(static_cast<std::uint8_t>(value >> 8U));
  bytes.push_back(static_cast<std::uint8_t>(value & 0xffU));
}

inline void put(Bytes& bytes, const Bytes& more) {
  bytes.insert(bytes.end(), more.begin(), more.end());
}

/// Encodes a name: "a.b" as length-prefixed labels, "@N" as a pointer to offset N.
inline Bytes wire_name(std::string_view text) {
  Bytes bytes;
  if (text.starts_with('@')) {
    put16(bytes, 0xc000U | static_cast<unsigned>(std::stoi(std::string(text.substr(1)))));
    return bytes;
  }
  while (!text.empty()) {
    const std::string_view label = text.substr(0, text.find('.'));
    bytes.push_back(static_cast<std::uint8_t>(label.size()));
    bytes.insert(bytes.end(), label.begin(), label.end());
    text.remove_prefix(std::min(text.size(), label.size() + 1));
  }
  bytes.push_back(0);
  return bytes;
}

struct Record {
  std::string owner;
  unsigned type = 1;
  std::uint32_t ttl = 0;
  Bytes data;
  unsigned klass = 1;
};

inline Record a(const std::string& owner, const std::string& address, std::uint32_t ttl = 300) {
  const auto parsed = policy::Address::parse(address).value();
  return {owner, parsed.family == policy::Address::Family::v4 ? 1U : 28U, ttl,
          Bytes(parsed.bytes.begin(),
                parsed.bytes.begin() + static_cast<std::ptrdiff_t>(parsed.size()))};
}

inline Record cname(const std::string& owner, const std::string& target, std::uint32_t ttl = 300) {
  return {owner, 5, ttl, wire_name(target)};
}

struct Message {
  std::string question = "deb.example.org";
  std::vector<Record> answers;
  std::vector<Record> additional = {};
  unsigned flags = 0x8180;  // an answer; recursion desired and available
  unsigned type = 1;
  unsigned klass = 1;
  unsigned questions = 1;

  [[nodiscard]] Bytes bytes() const {
    Bytes result;
    for (const std::size_t value : {std::size_t{7}, std::size_t{flags}, std::size_t{questions},
                                    answers.size(), std::size_t{0}, additional.size()}) {
      put16(result, static_cast<unsigned>(value));
    }
    for (unsigned i = 0; i < questions; i++) {
      put(result, wire_name(question));
      put16(result, type);
      put16(result, klass);
    }
    for (const auto* section : {&answers, &additional}) {
      for (const Record& record : *section) {
        put(result, wire_name(record.owner));
        put16(result, record.type);
        put16(result, record.klass);
        put16(result, record.ttl >> 16U);
        put16(result, record.ttl & 0xffffU);
        put16(result, static_cast<unsigned>(record.data.size()));
        put(result, record.data);
      }
    }
    return result;
  }
};

/// A packet from 10.0.0.53:53 to 10.0.0.1:4000 (or fd00::53 to fd00::1), without checksums, which
/// the reader does not check.
inline Bytes ip_packet(bool v6, unsigned protocol, const Bytes& body) {
  Bytes packet;
  if (v6) {
    packet = {0x60, 0, 0, 0};
    put16(packet, static_cast<unsigned>(body.size()));
    packet.push_back(static_cast<std::uint8_t>(protocol));
    packet.push_back(64);
    for (const char* address : {"fd00::53", "fd00::1"}) {
      const auto parsed = policy::Address::parse(address).value();
      packet.insert(packet.end(), parsed.bytes.begin(), parsed.bytes.end());
    }
  } else {
    packet = {0x45, 0};
    put16(packet, static_cast<unsigned>(20 + body.size()));
    put(packet,
        {0, 0, 0, 0, 64, static_cast<std::uint8_t>(protocol), 0, 0, 10, 0, 0, 53, 10, 0, 0, 1});
  }
  put(packet, body);
  return packet;
}

inline Bytes datagram(const Bytes& payload, bool v6 = false) {
  Bytes body;
  put16(body, 53);
  put16(body, 4000);
  put16(body, static_cast<unsigned>(8 + payload.size()));
  put16(body, 0);
  put(body, payload);
  return ip_packet(v6, 17, body);
}

inline Bytes segment(std::uint32_t sequence, const Bytes& payload, std::uint8_t flags = 0x10,
                     bool v6 = false) {
  Bytes body;
  put16(body, 53);
  put16(body, 4000);
  put16(body, sequence >> 16U);
  put16(body, sequence & 0xffffU);
  put(body, {0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0});
  put(body, payload);
  return ip_packet(v6, 6, body);
}

inline Bytes prefixed(const Bytes& message) {
  Bytes bytes;
  put16(bytes, static_cast<unsigned>(message.size()));
  put(bytes, message);
  return bytes;
}

}  // namespace trireme::names
