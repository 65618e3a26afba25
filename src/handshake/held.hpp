// SPDX-License-Identifier: Apache-2.0
// Packets that wait in the kernel's queue for the proof that their flow lacks.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "shares.hpp"

namespace trireme::handshake {

/// Those of one flow, in the order in which they came.
struct Held {
  static constexpr std::size_t kMost = 16;
  static constexpr std::size_t kMostBytes = std::size_t{128} << 10U;
  std::array<std::uint32_t, kMost> packets{};  // the queue's names for them
  std::size_t count = 0;
  std::size_t bytes = 0;
  [[nodiscard]] std::span<const std::uint32_t> all() const {
    return std::span(packets).first(count);
  }
};

/// Of all flows of a thread that are held alike, with a share for each owner. The kernel's queue
/// has room for more than all of them.
class Holding {
 public:
  static constexpr std::size_t kMost =
      1'024;  // packets of at most kUnit bytes; larger ones count as several
  static constexpr std::size_t kUnit = 4'096;

  Holding(std::size_t flows, std::uint64_t seed) : shares_(flows, seed) {}

  /// `entry` names the flow, below `flows`. False, and nothing changed, where the flow has no room
  /// for it, or where there is none and this owner holds most of it. What else has to make room is
  /// given up: `drop` is called with each entry, and is to call forget() for it.
  template <typename Drop>
  [[nodiscard]] bool add(std::uint32_t entry, const Owner& owner, Held& held, std::uint32_t packet,
                         std::size_t size, const Drop& drop) {
    if (held.count >= Held::kMost || held.bytes + size > Held::kMostBytes) {
      return false;
    }
    const auto units =
        static_cast<std::uint32_t>(std::max<std::size_t>(1, (size + kUnit - 1) / kUnit));
    while (shares_.total() + units > kMost) {
      if (shares_.is_largest(owner)) {
        return false;
      }
      drop(shares_.victim(), shares_.largest());
    }
    if (shares_.contains(entry)) {
      shares_.grow(entry, units);
    } else {
      shares_.add(entry, owner, 0, units);
    }
    held.packets.at(held.count++) = packet;
    held.bytes += size;
    return true;
  }
  void forget(std::uint32_t entry, Held& held) {
    if (shares_.contains(entry)) {
      shares_.remove(entry);
    }
    held = {};
  }
  [[nodiscard]] Holder largest() const { return shares_.largest(); }

 private:
  Shares shares_;
};

}  // namespace trireme::handshake
