// SPDX-License-Identifier: Apache-2.0
// The compiled BPF programs (gate.bpf.c), embedded in this binary.
#pragma once

#include <cstddef>
#include <span>

namespace trireme::gate {

/// An ELF object for libbpf.
[[nodiscard]] std::span<const std::byte> object();

}  // namespace trireme::gate
