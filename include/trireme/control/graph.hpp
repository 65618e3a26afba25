// SPDX-License-Identifier: Apache-2.0
// A policy graph as JSON.
#pragma once

#include <nlohmann/json.hpp>

#include "trireme/policy/graph.hpp"

namespace trireme::control {

/// {"nodes": [{"text": "app=web", "kind": "workload|host|world", "workloads": 2, "members": [],
///             "parties": []}],
///  "edges": [{"from": 0, "to": 1, "may": "tcp/80", "rules": [],
///             "did": [{"ports": "tcp/80", "verdict": "deny", "count": 3, "last": "..."}]}],
///  "folded": false}
/// "from" and "to" are indexes into "nodes". "may" lists the ports that the policy allows, "did"
/// the flows that were seen.
[[nodiscard]] nlohmann::json to_json(const policy::Graph& graph);

/// "workload", "host" or "world".
[[nodiscard]] const char* kind_text(policy::Endpoint::Kind kind);

}  // namespace trireme::control
