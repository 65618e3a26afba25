// SPDX-License-Identifier: Apache-2.0
// What changes between two policies and two identities of a host: which parties gain or lose access
// to which, who becomes or stops being a workload, which open connections would end, and which
// flows that were seen would be denied.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trireme/policy/access.hpp"
#include "trireme/policy/replay.hpp"

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

struct PolicyDiff {
  std::vector<std::string> settings;  // "mode: audit -> enforce"
  std::vector<AccessChange> access;
  IdentityDiff identity;  // with the open connections that each change ends
  Replay live;            // open connections
  Replay seen;            // flows that were seen
  std::size_t rules = 0;  // that only one of the two policies has
  [[nodiscard]] bool empty() const {
    return settings.empty() && access.empty() && identity.empty() && live.denied == 0 &&
           seen.denied == 0 && rules == 0;
  }
};

/// What is compared, besides the policies.
struct DiffInput {
  std::vector<Party> present;  // the current label sets, with the names of their workloads
  IdentityDiff identity = {};
  std::vector<SeenFlow> live = {};  // open connections
  std::vector<SeenFlow> seen = {};
  std::vector<std::string> settings = {};  // of identity that differ: PolicyDiff::settings
};

/// The label sets that workloads would have after the change, and the entities and networks of both
/// policies, are added to those present. Access is compared as if both policies were in enforce
/// mode. Open connections and flows are compared by the actual modes.
[[nodiscard]] PolicyDiff diff(const Policy& before, const Policy& after, DiffInput input);

}  // namespace trireme::policy
