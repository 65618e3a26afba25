// SPDX-License-Identifier: Apache-2.0
#include "trireme/enforcer/flow_label.hpp"

namespace trireme::enforcer {

namespace {

constexpr std::uint32_t kMask = (1U << 24U) - 1U;  // of a number

std::optional<policy::Number> checked(std::uint32_t number, std::uint32_t complement) {
  if (number == 0 && complement == 0) {
    return kNoNumber;
  }
  return (number ^ complement) == kMask ? std::optional(number) : std::nullopt;
}

}  // namespace

FlowLabel FlowLabel::bits(std::uint32_t flags) {
  return {{flags, 0, 0, 0}};
}

FlowLabel FlowLabel::source(policy::Number number, std::uint32_t flags) {
  return {{flags | (~number & kMask) << kFlagsWidth, number & kMask, 0, 0}};
}

FlowLabel FlowLabel::destination(policy::Number number, std::uint32_t flags) {
  return {{flags, 0, number & kMask, ~number & kMask}};
}

kernel::NftBytes FlowLabel::nft() const {
  kernel::NftBytes bytes;
  for (const std::uint32_t word : words) {
    bytes.add_u32(word);
  }
  return bytes;
}

std::optional<policy::Number> FlowLabel::source() const {
  return checked(words[1], words[0] >> kFlagsWidth);
}

std::optional<policy::Number> FlowLabel::destination() const {
  return checked(words[2], words[3]);
}

}  // namespace trireme::enforcer
