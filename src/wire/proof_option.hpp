// SPDX-License-Identifier: Apache-2.0
// The TCP option that carries PROOF: kind, length, ExID (RFC 6994), tag.
#pragma once

#include "options.hpp"
#include "trireme/abi/abi.hpp"
#include "trireme/wire/segment.hpp"

namespace trireme::wire {

inline constexpr std::size_t kProofPrefix = 4;  // bytes before the tag
inline constexpr std::size_t kProofSize = kProofPrefix + 16;

/// Offset of the first PROOF option in the options of a TCP header.
[[nodiscard]] inline std::optional<std::size_t> find_proof(std::span<const std::uint8_t> options) {
  OptionWalk walk(options);
  while (walk.next()) {
    if (walk.is_experiment(abi::kProofKind, abi::kProofExid) &&
        walk.option().size() == kProofSize) {
      return walk.offset();
    }
  }
  return std::nullopt;
}

}  // namespace trireme::wire
