// SPDX-License-Identifier: Apache-2.0
// The method `status` of the control socket.
#pragma once

#include <nlohmann/json.hpp>

namespace trireme::daemon {

class Daemon;

[[nodiscard]] nlohmann::json status_json(Daemon& daemon);

}  // namespace trireme::daemon
