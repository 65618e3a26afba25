// SPDX-License-Identifier: Apache-2.0
#include "trireme/handshake/flow_key.hpp"

#include <array>
#include <cstring>

namespace trireme::handshake {
namespace {

std::uint64_t mix(std::uint64_t value) {  // MurmurHash3's finalizer
  value = (value ^ value >> 33U) * 0xff51afd7ed558ccdU;
  value = (value ^ value >> 33U) * 0xc4ceb9fe1a85ec53U;
  return value ^ value >> 33U;
}

std::uint64_t add(std::uint64_t hash, const policy::Address& address) {
  std::array<std::uint64_t, 2> halves{};
  std::memcpy(halves.data(), address.bytes.data(), sizeof halves);
  return mix(mix(hash ^ halves[0]) ^ halves[1]);
}

}  // namespace

std::uint64_t hash(const FlowKey& key, std::uint64_t seed) {
  const std::uint64_t rest =
      std::uint64_t{key.point} << 33U | std::uint64_t{key.local_port} << 17U |
      std::uint64_t{key.remote_port} << 1U | static_cast<std::uint64_t>(key.role);
  return mix(add(add(seed, key.local), key.remote) ^ rest);
}

}  // namespace trireme::handshake
