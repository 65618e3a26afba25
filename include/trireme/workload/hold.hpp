// SPDX-License-Identifier: Apache-2.0
// A quarantine that an operator ordered with `trirectl quarantine`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "trireme/workload/workload.hpp"

namespace trireme::workload {

/// Applies to a process (trirun) until it ends. Applies to a container and to a unit also when they
/// start again: a program must not be able to leave quarantine by exiting.
struct Hold {
  std::string name = {};  // of the workload at the time of the order
  Kind kind = Kind::process;
  std::string cgroup_path = {};
  std::uint64_t cgroup_id = 0;
  std::string container_id = {};
  std::string by = {};     // the user who gave the order
  std::string why = {};    // may be empty
  std::string since = {};  // "2026-01-31T12:00:00Z"

  /// True if the workload is the one of the order, or a later start of it: a unit with the same
  /// cgroup path or name, a container with the same id or the same name at its engine.
  [[nodiscard]] bool covers(const Workload& workload) const;
  /// Workload::reason of a workload that is quarantined only because of this order: "ordered by
  /// alice at 2026-01-31T12:00:00Z: why".
  [[nodiscard]] std::string text() const;
  /// The order that Workload::reason is the text() of, if the workload is in quarantine because of
  /// one.
  [[nodiscard]] static std::optional<Hold> of(const Workload& workload);
};

}  // namespace trireme::workload
