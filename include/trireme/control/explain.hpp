// SPDX-License-Identifier: Apache-2.0
// Explains what the policy decides about a flow. The daemon uses it with its live workloads,
// trirectl with a directory of files and without a daemon.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "trireme/policy/explain.hpp"

namespace trireme::control {

/// {"verdict": "allow|deny|audit", "passes": true, "reason": "...",
///  "from": "...", "to": "...", "port": "tcp/80",
///  "rule": {"name": "...", "action": "allow|deny", "mode": "enforce|audit",
///           "until": "2026-12-01T00:00:00Z" or null, "file": "policy.toml", "line": 12} or null,
///  "source": {"judged": true, "text": "..."}, "destination": {...},
///  "closest": [{"rule": {...}, "differences": ["..."]}], "audited": [{rule}], "notes": ["..."],
///  "other_parts": [{"verdict": "...", "passes": true, "reason": "...", "rule": {...},
///                   "ends": ..., "count": 1}],
///  "text": "Explanation::render()"}
[[nodiscard]] nlohmann::json to_json(const policy::Explanation& explanation);

/// Parses two endpoints and a port as written on the command line, calls policy::explain() and
/// returns its result as JSON. Replaces lookup.is_local: the addresses of this network namespace's
/// interfaces belong to @host. Errors: an endpoint or the port cannot be parsed.
[[nodiscard]] Result<nlohmann::json> explain(const policy::Policy& policy, const std::string& from,
                                             const std::string& to, const std::string& port,
                                             policy::PeerLookup lookup);

}  // namespace trireme::control
