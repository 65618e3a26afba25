// SPDX-License-Identifier: Apache-2.0
// A flow's conntrack label (128 bits): verdict bits, and the numbers of both ends for revocation
// and the flow log.
//
// The kernel only ORs labels. Each number is therefore stored with its complement: two different
// numbers ORed together give neither of the two, and source() and destination() report a conflict
// instead of a third number. Rules compute the words from a number in a register, so each part
// begins a word: bits 0-7 of word 0 are flags, the rest of word 0 is the complement of the source,
// word 1 the source, word 2 the destination, word 3 its complement; 24 bits each.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "trireme/abi/abi.hpp"

namespace trireme::abi {

/// Four 32-bit words in host order, as nf_tables registers and the conntrack entry hold them.
struct FlowLabel {
  std::array<std::uint32_t, 4> words{};

  [[nodiscard]] static FlowLabel bits(std::uint32_t flags);
  [[nodiscard]] static FlowLabel source(Number number, std::uint32_t flags);
  [[nodiscard]] static FlowLabel destination(Number number, std::uint32_t flags);

  [[nodiscard]] std::uint32_t flags() const { return words[0] & ((1U << kFlagsWidth) - 1U); }
  /// kNoNumber if nothing was stored; nullopt if two writers stored different numbers.
  [[nodiscard]] std::optional<Number> source() const;
  [[nodiscard]] std::optional<Number> destination() const;
};

}  // namespace trireme::abi
