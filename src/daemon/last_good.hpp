// SPDX-License-Identifier: Apache-2.0
// The files of the last valid configuration, saved in the runtime directory. A daemon that restarts
// after a crash enforces them if the files on disk are invalid. Otherwise nothing would be enforced
// on workloads that start in the meantime.
#pragma once

#include <optional>
#include <string>

#include "trireme/config/file_set.hpp"

namespace trireme::daemon {

/// Atomically replaces RUNTIME-DIR/last-good.json, mode 0600.
[[nodiscard]] Status keep_last_good(const std::string& runtime_dir, const config::FileSet& files);

/// Returns nullopt if the file does not exist, cannot be read, or is not a valid configuration.
[[nodiscard]] std::optional<config::Configuration> read_last_good(const std::string& runtime_dir);

}  // namespace trireme::daemon
