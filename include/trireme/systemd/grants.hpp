// SPDX-License-Identifier: Apache-2.0
// Which users besides root may start workloads, and with which labels and properties.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trireme/config/host.hpp"

namespace trireme::systemd {

/// [[launch]] entries. User and group names are resolved at load; unknown ones are retried at most
/// every 5 s, because NSS can be slow and any user can trigger a lookup. A user or group may be
/// given as a number.
class LaunchGrants {
 public:
  void configure(std::shared_ptr<const config::Host> host);

  /// Succeeds if a single grant, to the user or to one of `groups`, covers all of `labels`. The
  /// error says what is missing.
  [[nodiscard]] Status permits(std::uint32_t uid, const std::vector<std::uint32_t>& groups,
                               const policy::LabelSet& labels);

 private:
  void resolve();

  std::shared_ptr<const config::Host> host_;
  std::vector<std::optional<std::uint32_t>> ids_;  // per entry: uid or gid; nullopt while unknown
  std::chrono::steady_clock::time_point resolved_;
};

/// True for the properties that a caller other than root may set: Description, CPUQuota, CPUWeight,
/// MemoryMax, MemoryHigh, TasksMax, RuntimeMaxSec, IOWeight.
[[nodiscard]] bool property_granted(const std::string& name);

/// The user's name, or "uid-1000" if the user has no name or the name is not valid in a unit name.
[[nodiscard]] std::string unit_prefix(std::uint32_t uid);

}  // namespace trireme::systemd
