// SPDX-License-Identifier: Apache-2.0
// The files of the last valid configuration, kept in the runtime directory: a daemon that comes
// back after a crash enforces them where those on disk are not valid, rather than nothing for
// whatever starts meanwhile.
#pragma once

#include <optional>
#include <string>

#include "trireme/config/loader.hpp"

namespace trireme::daemon {

/// Replaces RUNTIME-DIR/last-good.json, mode 0600, whole or not at all.
[[nodiscard]] Status keep_last_good(const std::string& runtime_dir,
                                    const config::Configuration& configuration);

/// nullopt where there is none, or none that is valid.
[[nodiscard]] std::optional<config::Configuration> read_last_good(const std::string& runtime_dir);

}  // namespace trireme::daemon
