// SPDX-License-Identifier: Apache-2.0
// Which process a pid is.
#pragma once

#include <cstdint>
#include <optional>

namespace trireme::workload {

/// Clock ticks after boot; with the pid it names one process for ever. Nothing where it has ended,
/// reaped or not.
[[nodiscard]] std::optional<std::uint64_t> start_time(std::uint32_t pid);

}  // namespace trireme::workload
