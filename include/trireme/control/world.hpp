// SPDX-License-Identifier: Apache-2.0
// policy::World as the control method `world` sends it, and what is known without the daemon.
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "trireme/policy/world.hpp"

namespace trireme::control {

/// Returns the events of the method `world` one by one, nullopt after the last: the residents, and
/// the addresses with DNS names.
[[nodiscard]] std::function<std::optional<nlohmann::json>()> world_events(
    std::shared_ptr<const policy::World> world);
/// Everything else: the result of the method.
[[nodiscard]] nlohmann::json world_result(const policy::World& world);

/// Puts a world together again from the events, in any order, and the result.
class WorldReader {
 public:
  void add(const nlohmann::json& event) { events_.push_back(event); }
  /// Errors: what was read is not what the method sends, as from a daemon of another version.
  [[nodiscard]] Result<policy::World> read(const nlohmann::json& result) const;

 private:
  std::vector<nlohmann::json> events_;
};

/// Knows only the addresses of this network namespace's interfaces.
[[nodiscard]] policy::World world_without_daemon();

}  // namespace trireme::control
