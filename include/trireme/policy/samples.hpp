// SPDX-License-Identifier: Apache-2.0
// A few addresses in place of all that a network has.
#pragma once

#include <vector>

#include "trireme/policy/policy.hpp"

namespace trireme::policy {

/// For each combination of networks that addresses of `network` are in by their CIDRs, one of these
/// addresses: more than that no rule tells apart.
[[nodiscard]] std::vector<Address> samples(const Policy& policy, std::size_t network);

}  // namespace trireme::policy
