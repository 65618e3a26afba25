// SPDX-License-Identifier: Apache-2.0
// The runtime directory of an instance of trireme, and the lock that keeps it exclusive.
#pragma once

#include <string>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"

namespace trireme::control {

/// The environment variable TRIREME_RUNTIME_DIR, or else /run/trireme. The option `--runtime-dir`
/// overrides both.
[[nodiscard]] std::string default_runtime_dir();

/// RUNTIME-DIR/trireme.sock
[[nodiscard]] std::string socket_path(const std::string& runtime_dir);

/// Locks RUNTIME-DIR/lock exclusively (flock(2)). A daemon holds the lock while it runs, and
/// `trirectl flush` while it removes the rules; the kernel releases it when the process ends. The
/// directory must exist; the file is not removed. Errors: another process holds the lock.
[[nodiscard]] Result<Fd> lock_instance(const std::string& runtime_dir);

}  // namespace trireme::control
