// SPDX-License-Identifier: Apache-2.0
// Peers that did not answer HELLO and that policy allows all the same: their next flows do not
// wait. Fixed memory, whatever addresses come.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "trireme/policy/address.hpp"

namespace trireme::handshake {

class SilentPeers {
 public:
  enum class Known : std::uint8_t {
    no,
    lately,  // did not answer a moment ago
    once,    // did not answer some time ago: to be asked again, without waiting
  };
  SilentPeers() : slots_(kSlots) {}

  [[nodiscard]] Known find(const policy::Address& address, std::uint16_t port,
                           std::chrono::milliseconds now) const;
  void add(const policy::Address& address, std::uint16_t port, std::chrono::milliseconds now);
  void remove(const policy::Address& address, std::uint16_t port);

 private:
  static constexpr std::size_t kSlots = 1024;
  struct Slot {
    policy::Address address;
    std::uint16_t port = 0;
    std::chrono::milliseconds since{};
    bool used = false;
  };
  [[nodiscard]] static std::size_t slot(const policy::Address& address, std::uint16_t port);
  std::vector<Slot> slots_;
};

}  // namespace trireme::handshake
