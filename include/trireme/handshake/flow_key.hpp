// SPDX-License-Identifier: Apache-2.0
// A flow as one enforcement point sees it: its addresses and ports, and which side is local.
#pragma once

#include <chrono>
#include <cstdint>

#include "trireme/handshake/facts.hpp"
#include "trireme/policy/address.hpp"

namespace trireme::handshake {

using Milliseconds = std::chrono::milliseconds;

// IANA protocol numbers.
inline constexpr std::uint8_t kTcp = 6;
inline constexpr std::uint8_t kUdp = 17;

enum class Role : std::uint8_t { client, server };

struct FlowKey {
  policy::Address local;
  policy::Address remote;
  std::uint16_t local_port = 0;
  std::uint16_t remote_port = 0;
  PointId point = 0;
  Role role = Role::client;
  bool operator==(const FlowKey&) const = default;
};
/// Equal seeds give equal hashes; a secret seed keeps others from choosing collisions.
[[nodiscard]] std::uint64_t hash(const FlowKey& key, std::uint64_t seed);

/// True for fe80::/10: a link-local address is unique only together with its device.
[[nodiscard]] inline bool is_on_link(const policy::Address& address) {
  return address.family == policy::Address::Family::v6 && address.bytes[0] == 0xfe &&
         (address.bytes[1] & 0xc0U) == 0x80;
}

}  // namespace trireme::handshake
