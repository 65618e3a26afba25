// SPDX-License-Identifier: Apache-2.0
#include "trireme/control/graph.hpp"

namespace trireme::control {

using nlohmann::json;

const char* kind_text(policy::Endpoint::Kind kind) {
  switch (kind) {
    case policy::Endpoint::Kind::workload:
      return "workload";
    case policy::Endpoint::Kind::host:
      return "host";
    case policy::Endpoint::Kind::world:
      return "world";
  }
  return "workload";
}

json to_json(const policy::Graph& graph) {
  json nodes = json::array();
  for (const policy::GraphNode& node : graph.nodes) {
    nodes.push_back({{"text", node.text},
                     {"kind", kind_text(node.kind)},
                     {"workloads", node.workloads},
                     {"members", node.members},
                     {"parties", node.parties}});
  }
  json edges = json::array();
  for (const policy::GraphEdge& edge : graph.edges) {
    json did = json::array();
    for (const policy::GraphUse& use : edge.did) {
      did.push_back({{"ports", policy::ports_text({use.ports})},
                     {"verdict", policy::text(use.verdict)},
                     {"count", use.count},
                     {"last", use.last}});
    }
    edges.push_back({{"from", edge.from},
                     {"to", edge.to},
                     {"may", edge.may.empty() ? json("") : json(policy::ports_text(edge.may))},
                     {"rules", edge.rules},
                     {"did", std::move(did)}});
  }
  return {{"nodes", std::move(nodes)}, {"edges", std::move(edges)}, {"folded", graph.folded}};
}

}  // namespace trireme::control
