// SPDX-License-Identifier: Apache-2.0
// The daemon's log: the journal if stderr is connected to it, else stderr.
#pragma once

#include <spdlog/sinks/sink.h>

#include <cstdint>
#include <memory>
#include <string>

#include "trireme/base/result.hpp"
#include "trireme/policy/flow.hpp"

namespace trireme::daemon {

/// Passes each line on without control characters: labels and names in it come from others, who
/// could otherwise forge lines or control the terminal that shows them.
[[nodiscard]] std::shared_ptr<spdlog::sinks::sink> printable_sink(
    std::shared_ptr<spdlog::sinks::sink> next);

/// Configures spdlog, with printable_sink(). `level` is one of trace, debug, info, warn, error;
/// anything else is an error. With `foreground`, the log goes to stderr as plain lines even if that
/// is the journal.
[[nodiscard]] Status set_up_log(const std::string& level, bool foreground);

/// Logs one denied, audited or logged flow, or, if `repeated` is not 0, how often it was repeated
/// since the line before. In the journal it has the fields TRIREME_VERDICT=, TRIREME_RULE=,
/// TRIREME_REASON=, TRIREME_SOURCE=, TRIREME_DESTINATION=, TRIREME_PROTOCOL=, TRIREME_PORT= and
/// TRIREME_COUNT=, TRIREME_POLICY= and TRIREME_FLOW=, and, where it is known,
/// TRIREME_SOURCE_VERDICT= and TRIREME_DESTINATION_VERDICT=; on stderr it is one line.
void log_flow(const policy::Flow& flow, std::uint64_t repeated = 0);

}  // namespace trireme::daemon
