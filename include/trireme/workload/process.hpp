// SPDX-License-Identifier: Apache-2.0
// Distinguishes a process from a later one with the same pid.
#pragma once

#include <cstdint>
#include <optional>

namespace trireme::workload {

/// The start time in clock ticks after boot. Together with the pid it identifies one process.
/// nullopt if the process has ended, even if it has not been reaped.
[[nodiscard]] std::optional<std::uint64_t> start_time(std::uint32_t pid);

}  // namespace trireme::workload
