// SPDX-License-Identifier: Apache-2.0
#include "trireme/handshake/sample_limiter.hpp"

namespace trireme::handshake {

bool SampleLimiter::admit(std::uint64_t kind, const Owner& owner, Milliseconds now) {
  constexpr std::uint64_t factor = 0x9e3779b97f4a7c15U;
  Slot& slot = slots_[(kind * factor >> 32U) % kSlots];
  if (slot.kind == kind && now < slot.until) {
    return false;
  }
  if (now >= second_ + std::chrono::seconds(1)) {
    second_ = now;
    admitted_ = 0;
    of_.fill(0);
  }
  std::uint8_t& mine = of_[owner.id * factor >> 56U];
  if (admitted_ >= kPerSecond || mine >= kOfOwner) {
    return false;
  }
  slot = {kind, now + kAgain};
  admitted_++;
  mine++;
  return true;
}

}  // namespace trireme::handshake
