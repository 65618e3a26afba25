// SPDX-License-Identifier: Apache-2.0
// Where an instance of trireme lives, and the lock that says it runs.
#pragma once

#include <string>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"

namespace trireme::control {

/// TRIREME_RUNTIME_DIR of the environment, else /run/trireme. Option `--runtime-dir` comes before
/// both.
[[nodiscard]] std::string default_runtime_dir();

/// RUNTIME-DIR/trireme.sock
[[nodiscard]] std::string socket_path(const std::string& runtime_dir);

/// Takes RUNTIME-DIR/lock (flock(2), exclusive), which a daemon holds as long as it lives and
/// `trirectl flush` while it flushes; freed by the kernel however its holder ends. An error where
/// another process holds it. The directory must exist; the file stays.
[[nodiscard]] Result<Fd> lock_instance(const std::string& runtime_dir);

}  // namespace trireme::control
