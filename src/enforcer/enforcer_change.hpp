// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "trireme/enforcer/enforcer.hpp"

namespace trireme::enforcer {

/// What one transaction changes. Removals are written before additions.
struct Enforcer::Change {
  std::vector<policy::Delta> deltas;                              // in this order
  std::vector<std::uint64_t> leaving;                             // cgroup ids
  std::vector<std::pair<std::uint64_t, policy::Number>> joining;  // cgroup id, its number
  std::vector<policy::Number> named;                              // numbers to add
  std::vector<policy::Number> unnamed;                            // numbers to remove
  std::optional<policy::Number> owner;                            // new owner of the namespace
  std::vector<policy::Address> forgotten;  // existing elements of addresses with DNS names
  std::vector<policy::Address> learned;    // addresses with DNS names to add
};

}  // namespace trireme::enforcer
