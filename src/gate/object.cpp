// SPDX-License-Identifier: Apache-2.0
#include "object.hpp"

// TRIREME_GATE_OBJECT is the path of the object file; CMake defines it.
// clang-format off
asm(".pushsection .rodata\n"
    ".balign 16\n"
    ".globl trireme_gate_object\n"
    "trireme_gate_object:\n"
    ".incbin \"" TRIREME_GATE_OBJECT "\"\n"
    ".globl trireme_gate_object_end\n"
    "trireme_gate_object_end:\n"
    ".popsection\n");
// clang-format on

extern "C" {
extern const std::byte trireme_gate_object;
extern const std::byte trireme_gate_object_end;
}

namespace trireme::gate {

std::span<const std::byte> object() {
  return {&trireme_gate_object, &trireme_gate_object_end};
}

}  // namespace trireme::gate
