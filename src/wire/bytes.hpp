// SPDX-License-Identifier: Apache-2.0
// Reads and writes numbers in network byte order. The caller checks the bounds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace trireme::wire {

[[nodiscard]] inline std::uint16_t read16(std::span<const std::uint8_t> bytes, std::size_t offset) {
  return static_cast<std::uint16_t>(bytes[offset] << 8U | bytes[offset + 1]);
}

[[nodiscard]] inline std::uint32_t read32(std::span<const std::uint8_t> bytes, std::size_t offset) {
  return std::uint32_t{read16(bytes, offset)} << 16U | read16(bytes, offset + 2);
}

inline void write16(std::span<std::uint8_t> bytes, std::size_t offset, std::size_t value) {
  bytes[offset] = static_cast<std::uint8_t>(value >> 8U);
  bytes[offset + 1] = static_cast<std::uint8_t>(value);
}

inline void write32(std::span<std::uint8_t> bytes, std::size_t offset, std::uint32_t value) {
  write16(bytes, offset, value >> 16U);
  write16(bytes, offset + 2, value & 0xFFFFU);
}

}  // namespace trireme::wire
