// SPDX-License-Identifier: Apache-2.0
// Files that root may not read: the daemon has no capability to do so against their modes.
#pragma once

#include <string>

namespace trireme::config {

/// This process is root's, and the file's mode, or that of a directory on the way, keeps it out.
[[nodiscard]] bool kept_from_root(const std::string& path);
[[nodiscard]] std::string mode_hint(const std::string& path);

}  // namespace trireme::config
