// SPDX-License-Identifier: Apache-2.0
// Workloads as JSON of the control socket.
#pragma once

#include <nlohmann/json.hpp>

#include "trireme/config/host.hpp"
#include "trireme/workload/registry.hpp"

namespace trireme::daemon {

/// The workload object of control/methods.hpp.
[[nodiscard]] nlohmann::json workload_json(const workload::Workload& workload,
                                           const config::Host& host);
/// How many workloads have capabilities that are not acknowledged, and which.
[[nodiscard]] nlohmann::json capabilities_json(const workload::Registry& registry,
                                               const config::Host& host);

}  // namespace trireme::daemon
