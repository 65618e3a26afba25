// SPDX-License-Identifier: Apache-2.0
// What this host runs that is a workload or could become one, for the method `present`.
#pragma once

#include <nlohmann/json.hpp>

#include "daemon.hpp"

namespace trireme::daemon {

/// As control/methods.hpp describes it.
[[nodiscard]] nlohmann::json present_json(Daemon& daemon);

}  // namespace trireme::daemon
