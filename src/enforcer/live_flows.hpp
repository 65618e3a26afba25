// SPDX-License-Identifier: Apache-2.0
// Changes many conntrack entries at once.
#pragma once

#include <functional>

#include "trireme/kernel/conntrack.hpp"

namespace trireme::enforcer {

/// Calls `change` for every flow for which `which` is true. Returns the number of such flows, or
/// the first error; an error does not prevent the changes of the other flows.
[[nodiscard]] Result<std::size_t> change_flows(
    kernel::Conntrack& conntrack, const std::function<bool(const kernel::TrackedFlow&)>& which,
    const std::function<Status(const kernel::TrackedFlow&)>& change);

}  // namespace trireme::enforcer
