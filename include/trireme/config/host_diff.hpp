// SPDX-License-Identifier: Apache-2.0
// Settings of identity.toml that differ, as text. Which workloads they concern is another question:
// policy/identity_diff.hpp.
#pragma once

#include <string>
#include <vector>

#include "trireme/config/host.hpp"

namespace trireme::config {

/// One line for each setting: "[host] peers: 10.0.0.0/8 -> none", "[[launch]] user deploy
/// (app=web*): added". Of [trust], the paths of the files are compared, not their contents.
[[nodiscard]] std::vector<std::string> differing_settings(const Host& before, const Host& after);

}  // namespace trireme::config
