// SPDX-License-Identifier: Apache-2.0
// A ruleset that somebody has saved with trireme's table in it: nft does not load it again.
#pragma once

#include <string>

#include "trireme/base/result.hpp"

namespace trireme::daemon {

/// Where nftables.service loads the host's own rules from at a boot.
inline constexpr const char* kSavedRuleset = "/etc/nftables.conf";

/// Errors: the file has trireme's table. One that is missing, or cannot be read, has not.
[[nodiscard]] Status check_saved_ruleset(const std::string& path = kSavedRuleset);

}  // namespace trireme::daemon
