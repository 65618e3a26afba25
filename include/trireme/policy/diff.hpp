// SPDX-License-Identifier: Apache-2.0
// What changes between two policies: which parties gain or lose access to which, and which open
// connections would be cut.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trireme/policy/access.hpp"
#include "trireme/policy/seen.hpp"

namespace trireme::policy {

/// A change that is the same for every pair of these parties.
struct AccessChange {
  std::vector<std::string> from;  // texts of parties
  std::vector<std::string> to;
  /// If not `none`: the change applies only to pairs whose label sets relate like this. `none`: it
  /// applies to all pairs.
  AccessMap::Relation only = AccessMap::Relation::none;
  std::vector<PortRange> gained;
  std::vector<PortRange> lost;
  std::vector<std::string> because;  // "now: allow 'web to db' (policy.toml:12:1)"; at most 4
};

/// An open connection that is allowed now and would be denied after the change.
struct Cut {
  SeenFlow flow;
  std::string reason;
};

struct PolicyDiff {
  std::vector<std::string> settings;  // "mode: audit -> enforce"
  std::vector<AccessChange> access;
  std::vector<Cut> cuts;
  std::uint64_t live = 0;      // open connections that were checked
  std::uint64_t live_cut = 0;  // of these, cut by the new policy
  std::size_t rules = 0;       // that only one of the two policies has
  [[nodiscard]] bool empty() const {
    return settings.empty() && access.empty() && live_cut == 0 && rules == 0;
  }
};

/// `present` are the current label sets with the names of their workloads; the entities and
/// networks of both policies are added. Access is compared as if both policies were in enforce
/// mode. Open connections are compared by the actual modes.
[[nodiscard]] PolicyDiff diff(const Policy& before, const Policy& after, std::vector<Party> present,
                              const std::vector<SeenFlow>& live);

}  // namespace trireme::policy
