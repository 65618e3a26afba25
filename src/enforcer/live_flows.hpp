// SPDX-License-Identifier: Apache-2.0
// Changes to conntrack entries, many at once.
#pragma once

#include <functional>

#include "trireme/kernel/conntrack.hpp"

namespace trireme::enforcer {

/// Changes every flow that `which` names, and returns how many. One that fails keeps no other from
/// its change; the first error is returned.
[[nodiscard]] Result<std::size_t> change_flows(
    kernel::Conntrack& conntrack, const std::function<bool(const kernel::TrackedFlow&)>& which,
    const std::function<Status(const kernel::TrackedFlow&)>& change);

}  // namespace trireme::enforcer
