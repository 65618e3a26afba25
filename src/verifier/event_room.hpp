// SPDX-License-Identifier: Apache-2.0
// Room for what is to be told, with a share for each owner.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "trireme/handshake/owner.hpp"

namespace trireme::verifier {

/// The last half of it is for owners that have taken little: a flood of one leaves the others'
/// refusals to be seen.
class EventRoom {
 public:
  static constexpr std::size_t kEvents = 1'024;
  static constexpr std::uint16_t kOfOne = 64;

  /// False where there is no room for one more of this owner.
  [[nodiscard]] bool take(const handshake::Owner& owner) {
    std::uint16_t& mine = of_[owner.id * 0x9e3779b97f4a7c15U >> 56U];
    if (taken_ >= kEvents || (taken_ >= kEvents / 2 && mine >= kOfOne)) {
      return false;
    }
    taken_++;
    mine++;
    return true;
  }
  void clear() {
    of_.fill(0);
    taken_ = 0;
  }

 private:
  std::array<std::uint16_t, 256> of_{};  // thrown together by a hash
  std::size_t taken_ = 0;
};

}  // namespace trireme::verifier
