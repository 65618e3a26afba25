// SPDX-License-Identifier: Apache-2.0
// The connections that a policy allows and those that were seen, as a graph.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trireme/policy/access.hpp"
#include "trireme/policy/seen.hpp"

namespace trireme::policy {

struct GraphNode {
  std::string
      text;  // of the party, or of several that no rule distinguishes: "app=web-1 and 41 more"
  Endpoint::Kind kind = Endpoint::Kind::workload;
  std::vector<std::string> members;  // names of current workloads, at most 8
  std::size_t workloads = 0;         // how many exist now
  std::vector<std::string> parties;  // label sets, if there are several
  LabelSet::Map labels = {};         // that all of them have
};

struct GraphUse {
  PortRange ports;
  Verdict verdict = Verdict::allow;  // of the policy of the graph, whatever it was when seen
  std::uint64_t count = 0;
  std::string last;
};

struct GraphEdge {
  std::size_t from = 0;
  std::size_t to = 0;
  std::vector<PortRange> may;      // allowed, as if in enforce mode
  std::vector<std::string> rules;  // rules that allow it, at most 4
  std::vector<GraphUse> did;       // seen
  bool by_baseline = false;        // no rule allows any of `may`, only the baseline
};

struct Graph {
  std::vector<GraphNode> nodes;
  std::vector<GraphEdge> edges;
  bool folded = false;  // too many label sets: those that no rule distinguishes share a node
};

/// `present` as for diff(). Endpoints of `seen` that are not workloads become @host, @world or a
/// network of the policy. Entities and networks without edges are left out.
[[nodiscard]] Graph graph(const Policy& policy, std::vector<Party> present,
                          const std::vector<SeenFlow>& seen);

/// For Graphviz. Bold lines were seen; the policy would deny those that are red, and audit those
/// that are orange.
[[nodiscard]] std::string dot(const Graph& graph);

}  // namespace trireme::policy
