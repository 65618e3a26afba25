// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "trireme/enforcer/enforcer.hpp"

namespace trireme::enforcer {

/// What one transaction changes. Removals come before additions of the same key.
struct Enforcer::Change {
  std::vector<policy::Delta> deltas;  // in this order
  std::vector<std::uint64_t> leaving;
  std::vector<std::pair<std::uint64_t, policy::Number>> joining;
  std::vector<policy::Number> named;
  std::vector<policy::Number> unnamed;
  std::optional<policy::Number> owner;
  std::vector<policy::Address> forgotten;  // of names: elements that are there
  std::vector<policy::Address> learned;
};

}  // namespace trireme::enforcer
