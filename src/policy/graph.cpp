// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/graph.hpp"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "trireme/base/printable.hpp"
#include "trireme/policy/explain.hpp"

namespace trireme::policy {
namespace {

constexpr std::size_t kMostNodes = 300;  // more label sets are folded
constexpr std::size_t kMostNames = 8;
constexpr std::size_t kMostRules = 4;
constexpr std::size_t kMostUses = 8;  // seen ports in the label of an edge

PortRange range_of(const SeenFlow& flow) {
  const bool has_ports = flow.protocol == IPPROTO_TCP || flow.protocol == IPPROTO_UDP;
  return {flow.protocol, has_ports ? flow.port : std::uint16_t{0},
          has_ports ? flow.port : std::uint16_t{65535}};
}

class Drawing {
 public:
  Drawing(const Policy& policy, std::vector<Party> present, const std::vector<SeenFlow>& seen)
      : policy_(policy),
        names_(policy),
        parties_(all_parties(policy, std::move(present), seen)),
        access_(policy, parties_) {
    for (std::size_t i = 0; i < parties_.size(); ++i) {
      by_text_.emplace(parties_[i].text, i);
    }
  }

  Graph run(const std::vector<SeenFlow>& seen) {
    make_nodes();
    for (const SeenFlow& flow : seen) {
      add_seen(flow);
    }
    add_allowed();
    for (auto& [ends, edge] : edges_) {
      result_.edges.push_back(std::move(edge));
    }
    drop_idle_networks();
    return std::move(result_);
  }

 private:
  /// Current label sets, label sets of seen flows whose workloads have ended, and entities.
  static std::vector<Party> all_parties(const Policy& policy, std::vector<Party> parties,
                                        const std::vector<SeenFlow>& seen) {
    std::set<std::string> known;
    for (const Party& party : parties) {
      known.insert(party.text);
    }
    for (const SeenFlow& flow : seen) {
      for (const SeenEnd* end : {&flow.from, &flow.to}) {
        if (end->labels && known.insert(party_of(*end->labels).text).second) {
          parties.push_back(party_of(*end->labels));
        }
      }
    }
    for (Party& party : entities_of(policy)) {
      parties.push_back(std::move(party));
    }
    return parties;
  }

  void make_nodes() {
    result_.folded = parties_.size() > kMostNodes;
    std::map<std::size_t, std::size_t> of_class;
    for (std::size_t i = 0; i < parties_.size(); ++i) {
      const std::size_t key = result_.folded ? access_.class_of(i) : i;
      const auto [found, is_new] = of_class.try_emplace(key, result_.nodes.size());
      if (is_new) {
        result_.nodes.push_back({.text = parties_[i].text,
                                 .kind = parties_[i].kind,
                                 .members = {},
                                 .workloads = 0,
                                 .parties = {},
                                 .labels = parties_[i].labels.items()});
        representative_.push_back(i);
      }
      node_of_.push_back(found->second);
      add_party(result_.nodes[found->second], parties_[i]);
    }
    for (GraphNode& node : result_.nodes) {
      if (node.parties.size() > 1) {
        node.text = fmt::format("{} and {} more", node.parties.front(), node.parties.size() - 1);
      } else {
        node.parties.clear();
        name_unlabeled(node);
      }
    }
  }

  /// Workloads without labels are known by their names.
  static void name_unlabeled(GraphNode& node) {
    if (node.text == party_of({}).text && !node.members.empty()) {
      node.text = node.members.front();
      if (node.workloads > 1) {
        node.text += fmt::format(" and {} more without labels", node.workloads - 1);
      }
    }
  }

  static void add_party(GraphNode& node, const Party& party) {
    node.parties.push_back(party.text);
    std::erase_if(node.labels, [&party](const auto& label) {
      const std::string* value = party.labels.find(label.first);
      return value == nullptr || *value != label.second;
    });
    node.workloads += party.members.size();
    for (const std::string& member : party.members) {
      if (node.members.size() < kMostNames) {
        node.members.push_back(member);
      }
    }
  }

  GraphEdge& edge(std::size_t from, std::size_t to) {
    GraphEdge& made = edges_[{from, to}];
    made.from = from;
    made.to = to;
    return made;
  }

  void add_seen(const SeenFlow& flow) {
    GraphEdge& line = edge(node_of_[place(flow.from)], node_of_[place(flow.to)]);
    const PortRange ports = range_of(flow);
    const Verdict verdict = judge(policy_, names_, flow).verdict;
    const auto [known, is_new] =
        uses_.try_emplace(std::tuple(line.from, line.to, ports, verdict), line.did.size());
    if (is_new) {
      line.did.push_back({ports, verdict, flow.count, flow.last});
      return;
    }
    GraphUse& use = line.did[known->second];
    use.count += flow.count;
    use.last = std::max(use.last, flow.last);
  }

  /// The party of an endpoint. A process of this host is @host even if a network contains its
  /// address, because the network's node represents other hosts, to which other rules apply.
  /// Exception: a network of loopback addresses contains only this host.
  [[nodiscard]] std::size_t place(const SeenEnd& end) const {
    if (end.labels) {
      return by_text_.at(party_of(*end.labels).text);
    }
    const std::vector<std::size_t> named =
        end.host ? std::vector<std::size_t>() : end.networks(names_);
    for (const Network& network : policy_.networks) {
      const bool inside =
          end.address && std::ranges::any_of(network.cidrs, [&](const Prefix& cidr) {
            return cidr.contains(*end.address) && (!end.host || cidr.address.is_loopback());
          });
      const auto index = static_cast<std::size_t>(&network - policy_.networks.data());
      if (inside || std::ranges::find(named, index) != named.end()) {
        return by_text_.at("@" + network.name);
      }
    }
    return by_text_.at(end.host ? "@host" : "@world");
  }

  void add_allowed() {
    for (std::size_t from = 0; from < representative_.size(); ++from) {
      for (std::size_t to = 0; to < representative_.size(); ++to) {
        const auto& openings = access_.between(representative_[from], representative_[to]);
        if (openings.empty()) {
          continue;
        }
        GraphEdge& line = edge(from, to);
        line.by_baseline = std::ranges::none_of(
            openings, [](const Opening& opening) { return opening.rule != nullptr; });
        std::set<std::string> rules;
        for (const Opening& opening : openings) {
          line.may.push_back(opening.ports);
          rules.insert(opening.rule != nullptr ? opening.rule->text() : sentence(opening.reason));
        }
        line.rules.assign(rules.begin(), rules.end());
        line.rules.resize(std::min(line.rules.size(), kMostRules));
      }
    }
  }

  void drop_idle_networks() {
    std::set<std::size_t> used;
    for (const GraphEdge& line : result_.edges) {
      used.insert({line.from, line.to});
    }
    std::vector<std::size_t> renumbered(result_.nodes.size());
    std::vector<GraphNode> kept;
    for (std::size_t i = 0; i < result_.nodes.size(); ++i) {
      renumbered[i] = kept.size();
      if (result_.nodes[i].kind == Endpoint::Kind::workload || used.contains(i)) {
        kept.push_back(std::move(result_.nodes[i]));
      }
    }
    for (GraphEdge& line : result_.edges) {
      line.from = renumbered[line.from];
      line.to = renumbered[line.to];
    }
    result_.nodes = std::move(kept);
  }

  const Policy& policy_;
  NameIndex names_;
  std::vector<Party> parties_;
  AccessMap access_;
  std::map<std::string, std::size_t> by_text_;
  std::vector<std::size_t> node_of_;         // by party
  std::vector<std::size_t> representative_;  // by node: one of its parties
  std::map<std::pair<std::size_t, std::size_t>, GraphEdge> edges_;
  // By edge, ports and verdict: the index in GraphEdge::did. A scan has as many as there are ports.
  std::map<std::tuple<std::size_t, std::size_t, PortRange, Verdict>, std::size_t> uses_;
  Graph result_;
};

/// Without control characters, except line ends: Graphviz draws text that changes its direction.
std::string dot_string(const std::string& text) {
  std::string result = "\"";
  for (std::size_t at = 0; at < text.size();) {
    const char c = text[at];
    const std::size_t control = c == '\n' ? 0 : control_at(text, at).size;
    if (c == '"' || c == '\\') {
      result += '\\';
    }
    result += control > 0 ? '?' : c;
    at += control > 0 ? control : 1;
  }
  return result + '"';
}

/// Ports that the label of an edge shows: denied ones first, then audited ones, the most frequent
/// of each first. A scan has as many as there are ports.
std::vector<const GraphUse*> most_telling(const std::vector<GraphUse>& uses) {
  std::vector<const GraphUse*> order;
  order.reserve(uses.size());
  for (const GraphUse& use : uses) {
    order.push_back(&use);
  }
  if (order.size() > kMostUses) {
    const auto rank = [](const GraphUse* use) {
      return use->verdict == Verdict::deny ? 0 : use->verdict == Verdict::audit ? 1 : 2;
    };
    std::ranges::stable_sort(order, [&rank](const GraphUse* a, const GraphUse* b) {
      return rank(a) != rank(b) ? rank(a) < rank(b) : a->count > b->count;
    });
    order.resize(kMostUses);
  }
  return order;
}

std::string dot_line(const GraphEdge& edge) {
  const bool refused = std::ranges::any_of(
      edge.did, [](const GraphUse& use) { return use.verdict == Verdict::deny; });
  const bool audited = std::ranges::any_of(
      edge.did, [](const GraphUse& use) { return use.verdict == Verdict::audit; });
  std::string label = edge.may.empty() ? "" : ports_text(edge.may);
  for (const GraphUse* use : most_telling(edge.did)) {
    label += fmt::format("{}{} {} x{}", label.empty() ? "" : "\n", text(use->verdict),
                         ports_text({use->ports}), use->count);
  }
  if (edge.did.size() > kMostUses) {
    label += fmt::format("\nand {} more", edge.did.size() - kMostUses);
  }
  const char* color = refused            ? "red"
                      : audited          ? "orange"
                      : edge.did.empty() ? "gray50"
                                         : "darkgreen";
  return fmt::format("  n{} -> n{} [label={}, color={}, style={}];\n", edge.from, edge.to,
                     dot_string(label), color, edge.did.empty() ? "solid" : "bold");
}

}  // namespace

Graph graph(const Policy& policy, std::vector<Party> present, const std::vector<SeenFlow>& seen) {
  return Drawing(policy, std::move(present), seen).run(seen);
}

std::string dot(const Graph& graph) {
  std::string out =
      "// Gray: allowed, not seen. Green: allowed and seen. Orange: audited, would be denied. "
      "Red: denied.\n"
      "digraph trireme {\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n  edge "
      "[fontname=\"sans-serif\", fontsize=10];\n";
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const GraphNode& node = graph.nodes[i];
    std::string label = node.text;
    if (node.workloads > 0) {
      label +=
          fmt::format("\n{}{}", node.members.front(),
                      node.workloads == 1 ? "" : fmt::format(" and {} more", node.workloads - 1));
    }
    out += fmt::format("  n{} [label={}{}];\n", i, dot_string(label),
                       node.kind == Endpoint::Kind::workload ? "" : ", shape=ellipse");
  }
  for (const GraphEdge& edge : graph.edges) {
    out += dot_line(edge);
  }
  return out + "}\n";
}

}  // namespace trireme::policy
