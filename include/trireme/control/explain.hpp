// SPDX-License-Identifier: Apache-2.0
// Questions about policy, answered alike by the daemon and by trirectl without it.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "trireme/policy/explain.hpp"

namespace trireme::control {

/// {"verdict": "allow|deny|audit", "passes": true, "reason": "...", "from": "...", "to": "...",
/// "port": "tcp/80",
///  "rule": {"name": "...", "action": "allow|deny", "mode": "enforce|audit", "file": "policy.toml",
///  "line": 12} or null, "source": {"judged": true, "text": "..."}, "destination": {...},
///  "closest": [{"rule": {...}, "differences": ["..."]}], "audited": [{rule}], "notes": ["..."],
///  "text": "Explanation::render()"}
[[nodiscard]] nlohmann::json to_json(const policy::Explanation& explanation);

/// policy::explain() for ends and a port as people write them, as JSON. Addresses of this network
/// namespace's interfaces are @host's: lookup.is_local is set here.
[[nodiscard]] Result<nlohmann::json> explain(const policy::Policy& policy, const std::string& from,
                                             const std::string& to, const std::string& port,
                                             policy::PeerLookup lookup);

}  // namespace trireme::control
