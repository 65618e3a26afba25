// SPDX-License-Identifier: Apache-2.0
// Converts addresses, ports and clauses of the original Trireme to the notation of policy.toml. An
// error says why policy.toml cannot express them.
#pragma once

#include "original_policy.hpp"

namespace trireme::config {

/// Clears the host bits, as the original does: "192.0.2.7/24" becomes "192.0.2.0/24".
[[nodiscard]] Result<std::string> original_prefix(const std::string& address);
/// Converts "tcp" and "80:90" to "tcp/80-90". An empty result means every protocol and port.
[[nodiscard]] Result<std::vector<std::string>> original_services(const OriginalAcl& acl);
/// Returns "" if the rule has no clauses.
[[nodiscard]] Result<std::string> original_selector(const OriginalTagRule& rule);

/// The selector of the containers to which the policy `name` applies; nullopt if the name is not a
/// valid label value.
[[nodiscard]] std::optional<std::string> own_selector(const std::string& name);

}  // namespace trireme::config
