// SPDX-License-Identifier: Apache-2.0
// Representative addresses of a network.
#pragma once

#include <vector>

#include "trireme/policy/policy.hpp"

namespace trireme::policy {

/// One address for each combination of networks that contain addresses of `network` by CIDR. No
/// rule distinguishes addresses within a combination. `network` is an index into Policy::networks.
[[nodiscard]] std::vector<Address> samples(const Policy& policy, std::size_t network);

}  // namespace trireme::policy
