// SPDX-License-Identifier: Apache-2.0
// Who may talk to whom, and who did: a policy and what was seen as nodes and edges.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trireme/policy/access.hpp"
#include "trireme/policy/seen.hpp"

namespace trireme::policy {

struct GraphNode {
  std::string
      text;  // of the party; of many that the rules do not tell apart: "app=web-1 and 41 more"
  Endpoint::Kind kind = Endpoint::Kind::workload;
  std::vector<std::string> members;  // names of workloads that are present, at most a few
  std::size_t workloads = 0;         // how many are present
  std::vector<std::string> parties;  // label sets, where there are several
};

struct GraphUse {
  PortRange ports;
  Verdict verdict = Verdict::allow;
  std::uint64_t count = 0;
  std::string last;
};

struct GraphEdge {
  std::size_t from = 0;
  std::size_t to = 0;
  std::vector<PortRange> may;      // as enforced
  std::vector<std::string> rules;  // that allow it, at most a few
  std::vector<GraphUse> did;
};

struct Graph {
  std::vector<GraphNode> nodes;
  std::vector<GraphEdge> edges;
  bool folded =
      false;  // so many label sets that those which the rules do not tell apart are one node
};

/// `present` as for diff(); ends of `seen` that are no workload's are @host, @world or a network of
/// the policy. Networks nobody talks to and no rule opens are left out.
[[nodiscard]] Graph graph(const Policy& policy, std::vector<Party> present,
                          const std::vector<SeenFlow>& seen);

/// For Graphviz: full lines are what may, bold ones what did, red ones what was refused.
[[nodiscard]] std::string dot(const Graph& graph);

}  // namespace trireme::policy
