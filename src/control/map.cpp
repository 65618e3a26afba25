// SPDX-License-Identifier: Apache-2.0
#include "trireme/control/map.hpp"

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "trireme/base/printable.hpp"
#include "trireme/control/graph.hpp"

namespace trireme::control {
namespace {

using nlohmann::json;

json printable_list(const std::vector<std::string>& texts, std::size_t most) {
  json list = json::array();
  for (std::size_t i = 0; i < std::min(most, texts.size()); ++i) {
    list.push_back(printable(texts[i]));
  }
  return list;
}

/// Unique, and the same for the same node in later maps, whether other nodes are left out or not.
std::vector<std::string> ids_of(const policy::Graph& graph) {
  std::vector<std::string> ids;
  std::set<std::string> taken;
  for (const policy::GraphNode& node : graph.nodes) {
    const std::string shown = printable(node.text);
    std::string id = node.kind == policy::Endpoint::Kind::workload ? shown : "entity " + shown;
    // Two workloads can have one name, and two texts can differ in a control character only.
    while (!taken.insert(id).second) {
      id += '+';
    }
    ids.push_back(std::move(id));
  }
  return ids;
}

json map_node(const policy::GraphNode& node, const std::string& id, const MapLimits& limits) {
  json labels = json::object();
  for (const auto& [key, value] : node.labels) {
    labels[printable(key)] = printable(value);
  }
  const std::size_t parties = std::min(limits.parties, node.parties.size());
  return {{"id", id},
          {"text", printable(node.text)},
          {"kind", kind_text(node.kind)},
          {"labels", std::move(labels)},
          {"members", printable_list(node.members, node.members.size())},
          {"workloads", node.workloads},
          {"parties", printable_list(node.parties, parties)},
          {"parties_left_out", node.parties.size() - parties}};
}

/// Denied uses first, then audited ones, the most frequent of each first.
std::vector<const policy::GraphUse*> worst_first(const policy::GraphEdge& edge) {
  std::vector<const policy::GraphUse*> uses;
  uses.reserve(edge.did.size());
  for (const policy::GraphUse& use : edge.did) {
    uses.push_back(&use);
  }
  const auto rank = [](const policy::GraphUse* use) {
    return use->verdict == policy::Verdict::deny    ? 0
           : use->verdict == policy::Verdict::audit ? 1
                                                    : 2;
  };
  std::ranges::stable_sort(uses, [&rank](const policy::GraphUse* a, const policy::GraphUse* b) {
    return rank(a) != rank(b) ? rank(a) < rank(b) : a->count > b->count;
  });
  return uses;
}

json map_edge(const policy::GraphEdge& edge, std::size_t from, std::size_t to,
              const MapLimits& limits) {
  std::uint64_t seen = 0;
  std::uint64_t denied = 0;
  for (const policy::GraphUse& use : edge.did) {
    seen += use.count;
    denied += use.verdict == policy::Verdict::deny ? use.count : 0;
  }
  json did = json::array();
  const auto uses = worst_first(edge);
  for (std::size_t i = 0; i < std::min(limits.uses, uses.size()); ++i) {
    did.push_back({{"ports", policy::ports_text({uses[i]->ports})},
                   {"verdict", policy::text(uses[i]->verdict)},
                   {"count", uses[i]->count},
                   {"last", printable(uses[i]->last)}});
  }
  return {{"from", from},
          {"to", to},
          {"state", text(state_of(edge))},
          {"may", edge.may.empty() ? std::string() : policy::ports_text(edge.may)},
          {"rules", printable_list(edge.rules, edge.rules.size())},
          {"seen", seen},
          {"denied", denied},
          {"did_left_out", uses.size() - did.size()},
          {"did", std::move(did)}};
}

/// True for an edge that every identity has.
bool is_baseline_loop(const policy::GraphEdge& edge) {
  const EdgeState state = state_of(edge);
  return edge.from == edge.to && edge.by_baseline &&
         (state == EdgeState::allow || state == EdgeState::open);
}

/// Without those that every identity has; the worst first if there is no room for all.
std::vector<const policy::GraphEdge*> edges_on_map(const policy::Graph& graph,
                                                   const MapLimits& limits) {
  std::vector<const policy::GraphEdge*> edges;
  for (const policy::GraphEdge& edge : graph.edges) {
    if (!is_baseline_loop(edge)) {
      edges.push_back(&edge);
    }
  }
  if (edges.size() > limits.edges || graph.nodes.size() > limits.nodes) {
    std::ranges::stable_sort(edges, {},
                             [](const policy::GraphEdge* edge) { return state_of(*edge); });
  }
  return edges;
}

/// The index of each node on the map; nullopt for those that are left out: first those without
/// edges, then the ends of the last edges.
std::vector<std::optional<std::size_t>> places_of(
    const policy::Graph& graph, const std::vector<const policy::GraphEdge*>& edges,
    const MapLimits& limits) {
  const std::size_t room = std::min(limits.nodes, graph.nodes.size());
  std::vector<bool> is_kept(graph.nodes.size());
  std::size_t kept = 0;
  const auto keep = [&](std::size_t node) {
    if (!is_kept[node] && kept < room) {
      is_kept[node] = true;
      kept++;
    }
  };
  for (const policy::GraphEdge* edge : edges) {
    keep(edge->from);
    keep(edge->to);
  }
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    keep(i);
  }
  std::vector<std::optional<std::size_t>> places(graph.nodes.size());
  std::size_t next = 0;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    if (is_kept[i]) {
      places[i] = next++;
    }
  }
  return places;
}

}  // namespace

EdgeState state_of(const policy::GraphEdge& edge) {
  EdgeState state = edge.did.empty() ? EdgeState::open : EdgeState::allow;
  for (const policy::GraphUse& use : edge.did) {
    state = std::min(state, use.verdict == policy::Verdict::deny    ? EdgeState::deny
                            : use.verdict == policy::Verdict::audit ? EdgeState::audit
                                                                    : EdgeState::allow);
  }
  return state;
}

const char* text(EdgeState state) {
  switch (state) {
    case EdgeState::deny:
      return "deny";
    case EdgeState::audit:
      return "audit";
    case EdgeState::allow:
      return "allow";
    case EdgeState::open:
      return "open";
  }
  return "open";
}

json map_json(const policy::Graph& graph, const MapLimits& limits) {
  const auto edges = edges_on_map(graph, limits);
  const auto places = places_of(graph, edges, limits);
  const std::vector<std::string> ids = ids_of(graph);
  json nodes = json::array();
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    if (places[i]) {
      nodes.push_back(map_node(graph.nodes[i], ids[i], limits));
    }
  }
  json drawn = json::array();
  for (const policy::GraphEdge* edge : edges) {
    const auto from = places[edge->from];
    const auto to = places[edge->to];
    if (from && to && drawn.size() < limits.edges) {
      drawn.push_back(map_edge(*edge, *from, *to, limits));
    }
  }
  const std::size_t left_out = edges.size() - drawn.size();
  const std::size_t nodes_left_out = graph.nodes.size() - nodes.size();
  return {{"nodes", std::move(nodes)},
          {"edges", std::move(drawn)},
          {"folded", graph.folded},
          {"left_out", left_out},
          {"nodes_left_out", nodes_left_out}};
}

}  // namespace trireme::control
