// SPDX-License-Identifier: Apache-2.0
// The methods `quarantine` and `release` of the control socket.
#pragma once

#include "daemon.hpp"

namespace trireme::daemon {

void register_incident_methods(control::Server& server, Daemon& daemon);

}  // namespace trireme::daemon
