// SPDX-License-Identifier: Apache-2.0
// The options of an IPv4 or TCP header, one after the other: both have the same form (RFC 791,
// section 3.1; RFC 9293, section 3.1).
#pragma once

#include <optional>

#include "bytes.hpp"

namespace trireme::wire {

class OptionWalk {
 public:
  explicit OptionWalk(std::span<const std::uint8_t> area) : area_(area) {}

  /// On to the next option that is no padding. False at the end, and where an option is bad().
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

  /// The walk has ended at an option of length 0 or 1, or one that goes beyond the area.
  [[nodiscard]] bool bad() const { return bad_; }
  /// Where the present option begins in the area, and its bytes, kind and length included: at
  /// least 2.
  [[nodiscard]] std::size_t offset() const { return offset_; }
  [[nodiscard]] std::span<const std::uint8_t> option() const {
    return area_.subspan(offset_, size_);
  }
  [[nodiscard]] std::uint8_t kind() const { return area_[offset_]; }

  /// Whether this is an experiment's option (RFC 6994) with this identifier.
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
