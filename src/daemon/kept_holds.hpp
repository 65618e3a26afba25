// SPDX-License-Identifier: Apache-2.0
// The quarantine orders, saved in the state directory: they apply until `trirectl release`, also
// after a restart of the daemon and a reboot.
#pragma once

#include <string>
#include <vector>

#include "trireme/base/result.hpp"
#include "trireme/workload/hold.hpp"

namespace trireme::daemon {

[[nodiscard]] std::string holds_file(const std::string& state_dir);

/// Replaces STATE-DIR/holds.json, mode 0600. When it returns, the file survives a crash of the
/// machine.
[[nodiscard]] Status keep_holds(const std::string& state_dir,
                                const std::vector<workload::Hold>& holds);

/// Returns an empty list if the file does not exist. Error: it cannot be read.
[[nodiscard]] Result<std::vector<workload::Hold>> read_holds(const std::string& state_dir);

}  // namespace trireme::daemon
