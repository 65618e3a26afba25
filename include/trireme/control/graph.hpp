// SPDX-License-Identifier: Apache-2.0
// A policy graph for programs, and as one page that a browser opens from disk.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "trireme/policy/graph.hpp"

namespace trireme::control {

/// {"nodes": [{"text", "kind": "workload|host|world", "workloads": 2, "members": [], "parties":
/// []}],
///  "edges": [{"from": 0, "to": 1, "may": "tcp/80", "rules": [], "did": [{"ports": "tcp/80",
///  "verdict": "deny", "count": 3, "last":
///  "..."}]}], "folded": false}
[[nodiscard]] nlohmann::json to_json(const policy::Graph& graph);

/// One HTML file: nothing is loaded from anywhere, names of strangers are text only. `title` for
/// its head.
[[nodiscard]] std::string graph_page(const policy::Graph& graph, const std::string& title);

}  // namespace trireme::control
