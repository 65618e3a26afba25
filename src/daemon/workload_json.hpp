// SPDX-License-Identifier: Apache-2.0
// Workloads and quarantine orders as JSON.
#pragma once

#include <nlohmann/json.hpp>

#include "trireme/workload/registry.hpp"

namespace trireme::daemon {

/// The workload object of control/methods.hpp.
[[nodiscard]] nlohmann::json workload_json(const workload::Registry& registry,
                                           const workload::Workload& workload);

/// The hold object of control/methods.hpp, for every order.
[[nodiscard]] nlohmann::json holds_json(const workload::Registry& registry);

}  // namespace trireme::daemon
