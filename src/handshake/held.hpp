// SPDX-License-Identifier: Apache-2.0
// Packets that are held in the kernel's queue until their flow is proved.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "shares.hpp"

namespace trireme::handshake {

/// The held packets of one flow, in order of arrival.
struct Held {
  static constexpr std::size_t kMost = 16;
  static constexpr std::size_t kMostBytes = std::size_t{128} << 10U;
  std::array<std::uint32_t, kMost> packets{};  // ids in the queue
  std::size_t count = 0;
  std::size_t bytes = 0;
  [[nodiscard]] std::span<const std::uint32_t> all() const {
    return std::span(packets).first(count);
  }
};

/// All held packets of one kind (TCP or UDP) of a thread, with a share for each owner. The kernel's
/// queue has room for more than all of them.
class Holding {
 public:
  /// Packets in all. A packet larger than kUnit bytes counts as several.
  static constexpr std::size_t kMost = 1'024;
  static constexpr std::size_t kUnit = 4'096;

  Holding(std::size_t flows, std::uint64_t seed) : shares_(flows, seed) {}

  /// Holds a packet of `size` bytes for the flow `entry`, an index below `flows`. False, and
  /// nothing changes, if the flow has reached its limit, or if all room is used and this owner is
  /// the largest holder. To make room, entries of the largest holder are evicted: `drop` is called
  /// with each of them and must call forget() for it.
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
