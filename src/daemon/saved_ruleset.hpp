// SPDX-License-Identifier: Apache-2.0
// Finds trireme's table in a saved ruleset, because nft cannot load such a file.
#pragma once

#include <string>

#include "trireme/base/result.hpp"

namespace trireme::daemon {

/// The file from which nftables.service loads the host's own rules at boot.
inline constexpr const char* kSavedRuleset = "/etc/nftables.conf";

/// Errors: the file contains trireme's table. A file that is missing or cannot be read is not an
/// error.
[[nodiscard]] Status check_saved_ruleset(const std::string& path = kSavedRuleset);

}  // namespace trireme::daemon
