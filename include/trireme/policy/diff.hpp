// SPDX-License-Identifier: Apache-2.0
// What changes between two policies: who gains and who loses access to whom, and which live flows
// would end.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trireme/policy/access.hpp"
#include "trireme/policy/seen.hpp"

namespace trireme::policy {

/// The same change for every pair of these parties.
struct AccessChange {
  std::vector<std::string> from;  // texts of parties
  std::vector<std::string> to;
  /// Of the pairs only those whose label sets are equal, or have a label in common; both where the
  /// rules make no such difference.
  AccessMap::Relation only = AccessMap::Relation::none;
  std::vector<PortRange> gained;
  std::vector<PortRange> lost;
  std::vector<std::string> because;  // "allow 'web to db' (policy.toml:12:1)", at most a few
};

/// A live flow that passes now and would not after.
struct Cut {
  SeenFlow flow;
  std::string reason;
};

struct PolicyDiff {
  std::vector<std::string> settings;  // "mode: audit -> enforce"
  std::vector<AccessChange> access;
  std::vector<Cut> cuts;
  std::uint64_t live = 0;      // flows that were looked at
  std::uint64_t live_cut = 0;  // of these
  std::size_t rules = 0;       // that one of the two policies has and the other has not
  [[nodiscard]] bool empty() const {
    return settings.empty() && access.empty() && live_cut == 0 && rules == 0;
  }
};

/// `present` are label sets and the names of their workloads; entities and networks of both
/// policies are added. Access is compared as enforced; live flows by what really happens to them.
[[nodiscard]] PolicyDiff diff(const Policy& before, const Policy& after, std::vector<Party> present,
                              const std::vector<SeenFlow>& live);

}  // namespace trireme::policy
