// SPDX-License-Identifier: Apache-2.0
// What a directory's identity.toml would change on this host, for `policy diff`.
#pragma once

#include <string>
#include <vector>

#include "command.hpp"
#include "trireme/config/loader.hpp"
#include "trireme/policy/identity_diff.hpp"

namespace trireme::cli {

struct IdentityView {
  policy::IdentityDiff diff;
  std::vector<std::string> settings;  // that differ
  std::vector<std::string> notes;     // what could not be compared, and why
};

/// Asks the daemon what runs on this host, and systemd about the units that entries of either side
/// name. `directory` is that of `after`, for hints.
[[nodiscard]] Result<IdentityView> compare_identity(const Globals& globals,
                                                    const config::Host& before,
                                                    const config::Host& after,
                                                    const std::string& directory);

}  // namespace trireme::cli
