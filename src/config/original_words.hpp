// SPDX-License-Identifier: Apache-2.0
// The original's addresses, ports and clauses in policy.toml's words. Errors say why there are none
// for them.
#pragma once

#include "original_policy.hpp"

namespace trireme::config {

/// "192.0.2.7/24" is read as the original does: host bits do not count.
[[nodiscard]] Result<std::string> original_prefix(const std::string& address);
/// "tcp" and "80:90" become "tcp/80-90". Empty: everything.
[[nodiscard]] Result<std::vector<std::string>> original_services(const OriginalAcl& acl);
/// "" where there are no clauses.
[[nodiscard]] Result<std::string> original_selector(const OriginalTagRule& rule);

/// Of the containers that a policy of this name is for; nullopt where the name cannot be the value
/// of a label.
[[nodiscard]] std::optional<std::string> own_selector(const std::string& name);

}  // namespace trireme::config
