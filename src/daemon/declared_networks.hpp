// SPDX-License-Identifier: Apache-2.0
// Where containers can be reached, kept for the next daemon: it has to know before their engines
// answer.
#pragma once

#include "trireme/docker/source.hpp"

namespace trireme::daemon {

[[nodiscard]] Status keep_declared_networks(const std::string& runtime_dir,
                                            const docker::DeclaredNetworks& networks);
/// None where nothing readable was kept.
[[nodiscard]] docker::DeclaredNetworks read_declared_networks(const std::string& runtime_dir);
/// Of all engines.
[[nodiscard]] std::vector<policy::Prefix> together(const docker::DeclaredNetworks& networks);

}  // namespace trireme::daemon
