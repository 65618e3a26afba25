// SPDX-License-Identifier: Apache-2.0
// Times in answers of the control socket.
#pragma once

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <string>

namespace trireme::daemon {

/// "2026-01-31T12:00:00Z"
[[nodiscard]] inline std::string time_text(std::chrono::system_clock::time_point time) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(time)));
}

}  // namespace trireme::daemon
