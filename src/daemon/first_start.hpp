// SPDX-License-Identifier: Apache-2.0
// What the first start on a host, or another configuration on a host that trireme protects already,
// would do to connections that are open there.
#pragma once

#include <string>
#include <vector>

#include "trireme/config/host.hpp"
#include "trireme/policy/policy.hpp"

namespace trireme::daemon {

struct FirstStart {
  std::uint64_t live = 0;          // open connections of what would be under policy
  std::uint64_t cut = 0;           // of these, the ones that the policy denies if it is enforced
  std::vector<std::string> lines;  // for people: the findings, and how to start in audit mode
};

/// If trireme already has a table in this network namespace, this is not a first start, and `lines`
/// is empty. Needs root; otherwise, `lines` says that nothing was checked.
[[nodiscard]] FirstStart look_at_first_start(const policy::Policy& policy,
                                             const config::Host& host);

/// For `--check`. If trireme already has a table in this network namespace, `lines` is empty unless
/// the configuration would cut connections.
[[nodiscard]] FirstStart look_at_configuration(const policy::Policy& policy,
                                               const config::Host& host);

}  // namespace trireme::daemon
