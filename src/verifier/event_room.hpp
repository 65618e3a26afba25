// SPDX-License-Identifier: Apache-2.0
// Bounds the number of pending events, with a share for each owner.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "trireme/handshake/owner.hpp"

namespace trireme::verifier {

/// The second half of the room is reserved for owners that have taken few places, so that a flood
/// by one owner does not hide the refusals of others.
class EventRoom {
 public:
  static constexpr std::size_t kEvents = 1'024;
  /// Places that each owner can have while the second half is in use.
  static constexpr std::uint16_t kOfOne = 64;
  /// Places for samples. They are no part of the others, so that no sample displaces a refusal.
  static constexpr std::size_t kSamples = 64;

  /// Takes a place for an event of this owner. False if there is no room for it.
  [[nodiscard]] bool take(const handshake::Owner& owner) {
    std::uint16_t& mine = of_[owner.id * 0x9e3779b97f4a7c15U >> 56U];
    if (taken_ >= kEvents || (taken_ >= kEvents / 2 && mine >= kOfOne)) {
      return false;
    }
    taken_++;
    mine++;
    return true;
  }
  /// Takes a place for a sample. False if there is no room for it.
  [[nodiscard]] bool take_sample() {
    if (samples_ >= kSamples) {
      return false;
    }
    samples_++;
    return true;
  }
  void clear() {
    of_.fill(0);
    taken_ = 0;
    samples_ = 0;
  }

 private:
  std::array<std::uint16_t, 256> of_{};  // by a hash of the owner; some owners share an entry
  std::size_t taken_ = 0;
  std::size_t samples_ = 0;
};

}  // namespace trireme::verifier
