// SPDX-License-Identifier: Apache-2.0
// Iterates over the options of an IPv4 or TCP header, which have the same format (RFC 791, section
// 3.1; RFC 9293, section 3.1).
#pragma once

#include <optional>

#include "bytes.hpp"

namespace trireme::wire {

class OptionWalk {
 public:
  explicit OptionWalk(std::span<const std::uint8_t> area) : area_(area) {}

  /// Moves to the next option that is not padding. False at the end, and if the option is invalid
  /// (see bad()).
  bool next() {
    offset_ += size_;
    size_ = 0;
    while (offset_ < area_.size() && area_[offset_] == kPadding) {
      ++offset_;
    }
    if (offset_ == area_.size() || area_[offset_] == kEnd) {
      return false;
    }
    const std::size_t left = area_.size() - offset_;
    const std::size_t size = left == 1 ? 0 : area_[offset_ + 1];
    bad_ = size < 2 || size > left;
    size_ = bad_ ? 0 : size;
    return !bad_;
  }

  /// True if the walk ended at an option with length 0 or 1, or one that extends beyond the area.
  [[nodiscard]] bool bad() const { return bad_; }
  /// Offset of the current option in the area. option() is its bytes, at least 2, because they
  /// include its kind and length.
  [[nodiscard]] std::size_t offset() const { return offset_; }
  [[nodiscard]] std::span<const std::uint8_t> option() const {
    return area_.subspan(offset_, size_);
  }
  [[nodiscard]] std::uint8_t kind() const { return area_[offset_]; }

  /// Whether the option is an experimental one (RFC 6994) with this identifier.
  [[nodiscard]] bool is_experiment(std::uint8_t kind, std::uint16_t exid) const {
    return this->kind() == kind && size_ >= 4 && read16(area_, offset_ + 2) == exid;
  }

 private:
  static constexpr std::uint8_t kEnd = 0, kPadding = 1;
  std::span<const std::uint8_t> area_;
  std::size_t offset_ = 0;
  std::size_t size_ = 0;
  bool bad_ = false;
};

}  // namespace trireme::wire
