// SPDX-License-Identifier: Apache-2.0
// The networks of containers, saved for the next daemon, which needs them before the container
// engines answer.
#pragma once

#include "trireme/docker/source.hpp"

namespace trireme::daemon {

/// Replaces RUNTIME-DIR/networks.json, mode 0600.
[[nodiscard]] Status keep_declared_networks(const std::string& runtime_dir,
                                            const docker::DeclaredNetworks& networks);
/// Empty if the file does not exist or cannot be read.
[[nodiscard]] docker::DeclaredNetworks read_declared_networks(const std::string& runtime_dir);
/// The networks of all engines in one list.
[[nodiscard]] std::vector<policy::Prefix> together(const docker::DeclaredNetworks& networks);

}  // namespace trireme::daemon
