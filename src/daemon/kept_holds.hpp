// SPDX-License-Identifier: Apache-2.0
// The quarantine orders, saved in the runtime directory: they apply until `trirectl release` or a
// reboot, also after a restart of the daemon.
#pragma once

#include <string>
#include <vector>

#include "trireme/base/result.hpp"
#include "trireme/workload/hold.hpp"

namespace trireme::daemon {

/// Atomically replaces RUNTIME-DIR/holds.json, mode 0600.
[[nodiscard]] Status keep_holds(const std::string& runtime_dir,
                                const std::vector<workload::Hold>& holds);

/// Returns an empty list if the file does not exist. Error: it cannot be read.
[[nodiscard]] Result<std::vector<workload::Hold>> read_holds(const std::string& runtime_dir);

}  // namespace trireme::daemon
