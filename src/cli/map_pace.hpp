// SPDX-License-Identifier: Apache-2.0
// How often `trirectl ui` makes its map: as seldom as that is expensive.
#pragma once

#include <chrono>
#include <optional>

namespace trireme::cli {

class MapPace {
 public:
  using Duration = std::chrono::steady_clock::duration;

  /// The time to wait after a map that took so long, at least one second and at most one minute.
  /// nullopt: no map could be made, which costs little. Time is not cost where the daemon was
  /// stopped or the host was suspended, so the shorter of two successive times counts.
  [[nodiscard]] Duration after(std::optional<Duration> took);

 private:
  std::optional<Duration> last_;
};

}  // namespace trireme::cli
