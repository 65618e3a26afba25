// SPDX-License-Identifier: Apache-2.0
// Which allowed flows become samples: a bounded number per second, with a share for each owner.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "trireme/handshake/owner.hpp"

namespace trireme::handshake {

/// Takes constant time and, after its construction, no memory. Not thread-safe: each thread has its
/// own.
class SampleLimiter {
 public:
  using Milliseconds = std::chrono::milliseconds;
  static constexpr std::size_t kPerSecond = 50;
  static constexpr std::uint8_t kOfOwner = 10;  // of these
  static constexpr std::chrono::seconds kAgain{60};

  SampleLimiter() : slots_(kSlots) {}
  /// True if the flow is to be reported. `kind`: a hash, not 0, that is equal for flows of one
  /// kind; each kind is reported once in kAgain, or more often if another kind has taken its slot.
  [[nodiscard]] bool admit(std::uint64_t kind, const Owner& owner, Milliseconds now);

 private:
  static constexpr std::size_t kSlots = 4096;
  struct Slot {
    std::uint64_t kind = 0;
    Milliseconds until{};
  };
  std::vector<Slot> slots_;
  Milliseconds second_{};               // when the current second began
  std::size_t admitted_ = 0;            // in it
  std::array<std::uint8_t, 256> of_{};  // the same by a hash of the owner; some share an entry
};

}  // namespace trireme::handshake
