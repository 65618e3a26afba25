// SPDX-License-Identifier: Apache-2.0
// Evaluates flows that were seen, or connections that are open, under a changed policy and changed
// identities: which of them would be denied from then on. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trireme/policy/identity_diff.hpp"
#include "trireme/policy/seen.hpp"

namespace trireme::policy {

/// Flows that pass now and would be denied after the change.
struct Cut {
  SeenFlow flow;  // with the ends as they are now; `count` is the number of those denied
  std::string reason;
  std::vector<std::string> identity = {};  // IdentityChange::text() of the changes at its ends
};

struct Replay {
  std::uint64_t flows = 0;   // all that were evaluated
  std::uint64_t denied = 0;  // of these
  std::vector<Cut> cuts;     // largest count first
};

/// `open`: the flows are connections that are open. Those of a workload to a remote host or another
/// network namespace that knew its labels then end with the labels, also if the end has none any
/// more: a connection is proved once, when it begins. For the same reason, a new workload is judged
/// there without the labels of the other end, and the other end without its. The counts `live_cut`
/// of `identity` are increased.
[[nodiscard]] Replay replay(const Policy& before, const Policy& after, IdentityDiff& identity,
                            const std::vector<SeenFlow>& flows, bool open);

}  // namespace trireme::policy
