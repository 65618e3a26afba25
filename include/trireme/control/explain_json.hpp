// An explanation as programs read it.
#pragma once

#include <nlohmann/json.hpp>

#include "trireme/policy/explain.hpp"

namespace trireme::control {

/// {"verdict": "allow|deny|audit", "passes": true, "reason": "...", "from": "...", "to": "...", "port": "tcp/80",
///  "rule": {"name": "...", "action": "allow|deny", "mode": "enforce|audit", "file": "policy.toml", "line": 12} or null,
///  "source": {"judged": true, "text": "..."}, "destination": {...},
///  "closest": [{"rule": {...}, "differences": ["..."]}], "audited": [{rule}], "text": "Explanation::render()"}
[[nodiscard]] nlohmann::json to_json(const policy::Explanation& explanation);

}  // namespace trireme::control
