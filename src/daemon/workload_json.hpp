// SPDX-License-Identifier: Apache-2.0
// Workloads and quarantine orders as JSON of the control socket.
#pragma once

#include <nlohmann/json.hpp>

#include "trireme/config/host.hpp"
#include "trireme/workload/registry.hpp"

namespace trireme::daemon {

/// The workload object of control/methods.hpp.
[[nodiscard]] nlohmann::json workload_json(const workload::Workload& workload,
                                           const workload::Registry& registry,
                                           const config::Host& host);
/// Why the workload is quarantined: its reason, and the operator's order if that is another one.
[[nodiscard]] std::string quarantine_text(const workload::Workload& workload,
                                          const workload::Registry& registry);
/// The hold object of control/methods.hpp, for every order.
[[nodiscard]] nlohmann::json holds_json(const workload::Registry& registry);
/// How many workloads have capabilities that are not acknowledged, and which.
[[nodiscard]] nlohmann::json capabilities_json(const workload::Registry& registry,
                                               const config::Host& host);

}  // namespace trireme::daemon
