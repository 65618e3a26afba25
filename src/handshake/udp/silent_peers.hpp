// SPDX-License-Identifier: Apache-2.0
// Peers that did not answer HELLO but that policy allows without labels: their next flows do not
// wait. The memory is fixed, however many addresses there are.
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
    lately,  // did not answer within the last minute
    once,    // did not answer within ten minutes: send HELLO again, without waiting for the answer
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
