// SPDX-License-Identifier: Apache-2.0
#include "trireme/control/map.hpp"

#include <algorithm>
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

json map_node(const policy::GraphNode& node, const MapLimits& limits, std::set<std::string>& ids) {
  const std::string shown = printable(node.text);
  std::string id = node.kind == policy::Endpoint::Kind::workload ? shown : "entity " + shown;
  // Two workloads can have one name, and two texts can differ in a control character only.
  while (!ids.insert(id).second) {
    id += '+';
  }
  json labels = json::object();
  for (const auto& [key, value] : node.labels) {
    labels[printable(key)] = printable(value);
  }
  const std::size_t parties = std::min(limits.parties, node.parties.size());
  return {{"id", id},
          {"text", shown},
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

json map_edge(const policy::GraphEdge& edge, const MapLimits& limits) {
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
  return {{"from", edge.from},
          {"to", edge.to},
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
  json nodes = json::array();
  std::set<std::string> ids;
  for (const policy::GraphNode& node : graph.nodes) {
    nodes.push_back(map_node(node, limits, ids));
  }
  std::vector<const policy::GraphEdge*> shown;
  for (const policy::GraphEdge& edge : graph.edges) {
    if (!is_baseline_loop(edge)) {
      shown.push_back(&edge);
    }
  }
  const std::size_t kept = std::min(limits.edges, shown.size());
  if (kept < shown.size()) {
    std::ranges::stable_sort(shown, {},
                             [](const policy::GraphEdge* edge) { return state_of(*edge); });
  }
  json edges = json::array();
  for (std::size_t i = 0; i < kept; ++i) {
    edges.push_back(map_edge(*shown[i], limits));
  }
  return {{"nodes", std::move(nodes)},
          {"edges", std::move(edges)},
          {"folded", graph.folded},
          {"left_out", shown.size() - kept}};
}

}  // namespace trireme::control
