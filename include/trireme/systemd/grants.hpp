// SPDX-License-Identifier: Apache-2.0
// Who besides root may launch, with which labels and properties.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "trireme/policy/identity.hpp"

namespace trireme::systemd {

/// [[launch]] entries, their names resolved when they come; those that do not exist yet are looked
/// up again, at most once in five seconds: who answers may be slow, and anybody can ask. A user or
/// group may be a number.
class LaunchGrants {
 public:
  void configure(std::shared_ptr<const policy::Identity> identity);

  /// One grant, by user or by one of the groups, covers every label. The error says what is
  /// missing.
  [[nodiscard]] Status permits(std::uint32_t uid, const std::vector<std::uint32_t>& groups,
                               const policy::LabelSet& labels);

 private:
  void resolve();

  std::shared_ptr<const policy::Identity> identity_;
  std::vector<std::optional<std::uint32_t>> ids_;  // of each entry: its user's, or its group's
  std::chrono::steady_clock::time_point resolved_;
};

/// Properties that a caller other than root may set: Description, CPUQuota, CPUWeight, MemoryMax,
/// MemoryHigh, TasksMax, RuntimeMaxSec, IOWeight.
[[nodiscard]] bool property_granted(const std::string& name);

/// The user's name, or "uid-1000" where it has none or one that is no part of a unit name.
[[nodiscard]] std::string unit_prefix(std::uint32_t uid);

}  // namespace trireme::systemd
