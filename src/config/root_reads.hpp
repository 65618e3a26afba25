// SPDX-License-Identifier: Apache-2.0
// Files that root cannot read: the daemon runs without the capability to override file modes.
#pragma once

#include <string>

namespace trireme::config {

/// Whether this process runs as root and cannot read the file because of its mode or the mode of a
/// directory on its path.
[[nodiscard]] bool kept_from_root(const std::string& path);
/// The hint of the error for such a file.
[[nodiscard]] std::string mode_hint(const std::string& path);

/// Whether the modes of the file and of the directories above it keep it from a root without
/// CAP_DAC_OVERRIDE. For users who cannot try it. False if this user cannot find out.
[[nodiscard]] bool modes_keep_from_root(const std::string& path);

}  // namespace trireme::config
