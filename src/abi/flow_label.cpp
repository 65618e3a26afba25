// SPDX-License-Identifier: Apache-2.0
#include "trireme/abi/flow_label.hpp"

namespace trireme::abi {

namespace {

std::optional<Number> checked(std::uint32_t number, std::uint32_t complement) {
  if (number == 0 && complement == 0) {
    return kNoNumber;
  }
  return (number ^ complement) == kNumberMask ? std::optional(number) : std::nullopt;
}

}  // namespace

FlowLabel FlowLabel::bits(std::uint32_t flags) {
  return {{flags, 0, 0, 0}};
}

FlowLabel FlowLabel::source(Number number, std::uint32_t flags) {
  return {{flags | (~number & kNumberMask) << kFlagsWidth, number & kNumberMask, 0, 0}};
}

FlowLabel FlowLabel::destination(Number number, std::uint32_t flags) {
  return {{flags, 0, number & kNumberMask, ~number & kNumberMask}};
}

std::optional<Number> FlowLabel::source() const {
  return checked(words[1], words[0] >> kFlagsWidth);
}

std::optional<Number> FlowLabel::destination() const {
  return checked(words[2], words[3]);
}

}  // namespace trireme::abi
