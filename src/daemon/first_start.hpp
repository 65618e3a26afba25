// SPDX-License-Identifier: Apache-2.0
// What the first start on a host would do to those who talk there already.
#pragma once

#include <string>
#include <vector>

#include "trireme/policy/identity.hpp"
#include "trireme/policy/policy.hpp"

namespace trireme::daemon {

struct FirstStart {
  std::uint64_t live = 0;  // connections of those who would be workloads
  std::uint64_t cut =
      0;  // of these, what this policy refuses; under mode = "audit" what it would refuse
  std::vector<std::string>
      lines;  // for a terminal or a journal: the findings, and how to begin in audit mode
};

/// Looks only where trireme has no table in this network namespace yet: else nothing would be cut
/// that is not cut already, and `lines` is empty. For root; says so where it cannot look.
[[nodiscard]] FirstStart look_at_first_start(const policy::Policy& policy,
                                             const policy::Identity& identity);

}  // namespace trireme::daemon
