// SPDX-License-Identifier: Apache-2.0
#include "udp/silent_peers.hpp"

namespace trireme::handshake {
namespace {

constexpr std::chrono::milliseconds kLately{60'000};
constexpr std::chrono::milliseconds kOnce{600'000};

}  // namespace

std::size_t SilentPeers::slot(const policy::Address& address, std::uint16_t port) {
  std::uint64_t value = port;
  for (const std::uint8_t byte : address.bytes) {
    value = (value ^ byte) * 0x100000001b3U;
  }
  return value * 0x9e3779b97f4a7c15U >> 54U;  // 10 bits
}

SilentPeers::Known SilentPeers::find(const policy::Address& address, std::uint16_t port,
                                     std::chrono::milliseconds now) const {
  const Slot& found = slots_[slot(address, port)];
  if (!found.used || found.address != address || found.port != port || found.since + kOnce <= now) {
    return Known::no;
  }
  return found.since + kLately <= now ? Known::once : Known::lately;
}

void SilentPeers::add(const policy::Address& address, std::uint16_t port,
                      std::chrono::milliseconds now) {
  slots_[slot(address, port)] = {address, port, now, true};
}

void SilentPeers::remove(const policy::Address& address, std::uint16_t port) {
  Slot& found = slots_[slot(address, port)];
  found.used = found.used && (found.address != address || found.port != port);
}

}  // namespace trireme::handshake
