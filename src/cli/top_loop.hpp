// SPDX-License-Identifier: Apache-2.0
// `trirectl top` on a terminal: draws the newest answer, and obeys keys and signals.
#pragma once

#include <chrono>
#include <string>

#include "top_model.hpp"
#include "trireme/base/result.hpp"

namespace trireme::cli {

/// Runs until the user ends it. Restores the terminal in any case; after SIGTERM or SIGHUP the
/// process then ends by that signal. `first`: the daemon's answer just now, which is shown until
/// the next interval. Errors: the terminal cannot be used.
[[nodiscard]] Status top_loop(const std::string& socket, std::chrono::seconds interval,
                              TopView view, TopOrder order, TrafficAnswer first);

}  // namespace trireme::cli
