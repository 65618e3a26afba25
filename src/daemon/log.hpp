// SPDX-License-Identifier: Apache-2.0
// Where the daemon's words go: the journal where stderr is one, else stderr.
#pragma once

#include <cstdint>
#include <string>

#include "trireme/base/result.hpp"
#include "trireme/policy/flow.hpp"

namespace trireme::daemon {

/// Sets spdlog up. `level` is one of trace, debug, info, warn, error; anything else is an error.
/// `foreground`: stderr, whatever it is.
[[nodiscard]] Status set_up_log(const std::string& level, bool foreground);

/// One refused, audited or logged flow: in the journal with the fields TRIREME_VERDICT=,
/// TRIREME_RULE=, TRIREME_REASON=, TRIREME_SOURCE=, TRIREME_DESTINATION=, TRIREME_PROTOCOL= and
/// TRIREME_PORT=, on stderr as one line.
void log_flow(const policy::Flow& flow);

}  // namespace trireme::daemon
