// SPDX-License-Identifier: Apache-2.0
// The map of the page of `trirectl ui` and of `trirectl policy graph --format html`: a graph of the
// policy, with one state for each edge, without what says nothing on a map, and bounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "trireme/policy/graph.hpp"

namespace trireme::control {

/// What an edge says at a glance, worst first. Seen flows count with the verdict of the policy in
/// force, whatever it was when they were seen.
enum class EdgeState : std::uint8_t {
  deny,   // flows were seen that the policy denies
  audit,  // flows were seen that pass only because of audit mode
  allow,  // flows were seen, and all are allowed
  open,   // allowed, and none was seen
};
[[nodiscard]] EdgeState state_of(const policy::GraphEdge& edge);
[[nodiscard]] const char* text(EdgeState state);

struct MapLimits {
  std::size_t nodes = 500;    // the ends of the worst edges are kept
  std::size_t edges = 4'000;  // of those that are only allowed, the rest is left out first
  std::size_t uses = 8;       // seen ports of one edge
  std::size_t parties = 20;   // label sets that share a node
};

/// {"nodes": [{"id": "app=web", "text": "app=web", "kind": "workload|host|world",
///             "labels": {"app": "web"}, "members": [], "workloads": 2, "parties": [],
///             "parties_left_out": 0}],
///  "edges": [{"from": 0, "to": 1, "state": "allow|open|audit|deny", "may": "tcp/80", "rules": [],
///             "seen": 12, "denied": 3,
///             "did": [{"ports": "tcp/80", "verdict": "deny", "count": 3, "last": "..."}],
///             "did_left_out": 0}],
///  "folded": false, "left_out": 0 (edges), "nodes_left_out": 0}
/// Each "id" is unique, and the same for the same node in later maps. An edge from an identity to
/// itself is left out if only the baseline allows it: every identity has it. Control characters
/// are replaced (base/printable.hpp); a name that changes the direction of text would look like
/// another one.
[[nodiscard]] nlohmann::json map_json(const policy::Graph& graph, const MapLimits& limits = {});

}  // namespace trireme::control
