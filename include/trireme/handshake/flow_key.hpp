// SPDX-License-Identifier: Apache-2.0
// A flow as an enforcement point sees it, in one of its two roles.
#pragma once

#include <chrono>
#include <cstdint>

#include "trireme/handshake/facts.hpp"
#include "trireme/policy/address.hpp"

namespace trireme::handshake {

using Milliseconds = std::chrono::milliseconds;

// IANA's numbers.
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
[[nodiscard]] std::uint64_t hash(const FlowKey& key, std::uint64_t seed);

/// fe80::/10: where that is, the device tells.
[[nodiscard]] inline bool is_on_link(const policy::Address& address) {
  return address.family == policy::Address::Family::v6 && address.bytes[0] == 0xfe &&
         (address.bytes[1] & 0xc0U) == 0x80;
}

}  // namespace trireme::handshake
