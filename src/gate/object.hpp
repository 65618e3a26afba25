// SPDX-License-Identifier: Apache-2.0
// The compiled programs (gate.bpf.c), which are part of this binary.
#pragma once

#include <cstddef>
#include <span>

namespace trireme::gate {

/// An ELF object for libbpf.
[[nodiscard]] std::span<const std::byte> object();

}  // namespace trireme::gate
