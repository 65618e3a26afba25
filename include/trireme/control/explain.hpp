// SPDX-License-Identifier: Apache-2.0
// Explains what the policy decides about a flow. The daemon uses it with what it knows about this
// host, trirectl with a directory of files.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "trireme/policy/explain.hpp"

namespace trireme::control {

/// {"verdict": "allow|deny|audit|unknown", "passes": true, "reason": "...",
///  "from": "...", "to": "...", "port": "tcp/80",
///  "rule": {"name": "...", "action": "allow|deny", "mode": "enforce|audit",
///           "until": "2026-12-01T00:00:00Z" or null, "file": "policy.toml", "line": 12} or null,
///  "source": {"judged": true, "text": "..."}, "destination": {...},
///  "closest": [{"rule": {...}, "differences": ["..."]}], "toml": "[[allow]]...",
///  "audited": [{rule}], "notes": ["..."],
///  "other_parts": [{"verdict": "...", "passes": true, "reason": "...", "rule": {...},
///                   "ends": ..., "count": 1}],
///  "text": "Explanation::render()"}
[[nodiscard]] nlohmann::json to_json(const policy::Explanation& explanation);

/// Parses two endpoints and a port as written on the command line, calls policy::explain() and
/// returns its result as JSON. Errors (usage): an endpoint or the port cannot be parsed.
[[nodiscard]] Result<nlohmann::json> explain(const policy::Policy& policy,
                                             const policy::World& world, const std::string& from,
                                             const std::string& to, const std::string& port);

}  // namespace trireme::control
