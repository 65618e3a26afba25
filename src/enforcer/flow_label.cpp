#include "trireme/enforcer/flow_label.hpp"

namespace trireme::enforcer {

namespace {

constexpr unsigned kWidth = 24;  // bits of a number
constexpr std::uint32_t kMask = (1U << kWidth) - 1U;
constexpr unsigned kSource = 32;  // first bit of the source's number; its complement follows
constexpr unsigned kDestination = kSource + 2 * kWidth;

void store(FlowLabel& label, unsigned position, std::uint32_t value) {
  for (unsigned bit = 0; bit < kWidth; bit++) {
    if ((value >> bit & 1U) != 0) {
      label.words[(position + bit) / 32] |= 1U << (position + bit) % 32;
    }
  }
}

std::uint32_t load(const FlowLabel& label, unsigned position) {
  std::uint32_t value = 0;
  for (unsigned bit = 0; bit < kWidth; bit++) {
    value |= (label.words[(position + bit) / 32] >> (position + bit) % 32 & 1U) << bit;
  }
  return value;
}

FlowLabel numbered(unsigned position, policy::Number number, std::uint32_t flags) {
  FlowLabel label = FlowLabel::bits(flags);
  store(label, position, number & kMask);
  store(label, position + kWidth, ~number & kMask);
  return label;
}

std::optional<policy::Number> number_at(const FlowLabel& label, unsigned position) {
  const std::uint32_t number = load(label, position);
  const std::uint32_t complement = load(label, position + kWidth);
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
  return numbered(kSource, number, flags);
}

FlowLabel FlowLabel::destination(policy::Number number, std::uint32_t flags) {
  return numbered(kDestination, number, flags);
}

kernel::NftBytes FlowLabel::nft() const {
  kernel::NftBytes bytes;
  for (const std::uint32_t word : words) {
    bytes.add_u32(word);
  }
  return bytes;
}

std::optional<policy::Number> FlowLabel::source() const {
  return number_at(*this, kSource);
}

std::optional<policy::Number> FlowLabel::destination() const {
  return number_at(*this, kDestination);
}

}  // namespace trireme::enforcer
