// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/suggest.hpp"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "suggest_sides.hpp"
#include "trireme/policy/explain.hpp"

namespace trireme::policy {
namespace {

constexpr std::uint16_t kFirstEphemeral = 32768;  // Linux's default of net.ipv4.ip_local_port_range
constexpr std::size_t kMostPorts =
    16;  // per protocol and rule; more become one range, as a service may use random ports

/// A future rule. It allows every combination of `from`, `to` and `ports`, and all were seen.
struct Block {
  std::set<SideId> from;
  std::set<SideId> to;
  std::set<PortRange> ports;
  std::set<std::size_t> flows;  // that need it, by index
};

/// Merges blocks that differ in only one dimension.
template <typename Key, typename Join>
std::vector<Block> merge(const std::vector<Block>& blocks, Key key, Join join) {
  std::map<decltype(key(blocks.front())), Block> merged;
  for (const Block& block : blocks) {
    const auto [found, is_new] = merged.try_emplace(key(block), block);
    if (!is_new) {
      join(found->second, block);
      found->second.flows.insert(block.flows.begin(), block.flows.end());
    }
  }
  std::vector<Block> result;
  for (auto& [ignored, block] : merged) {
    result.push_back(std::move(block));
  }
  return result;
}

std::vector<Block> merge_dimension(const std::vector<Block>& blocks, int dimension) {
  if (blocks.empty()) {
    return blocks;
  }
  switch (dimension) {
    case 0:
      return merge(
          blocks, [](const Block& b) { return std::pair(b.to, b.ports); },
          [](Block& a, const Block& b) { a.from.insert(b.from.begin(), b.from.end()); });
    case 1:
      return merge(
          blocks, [](const Block& b) { return std::pair(b.from, b.ports); },
          [](Block& a, const Block& b) { a.to.insert(b.to.begin(), b.to.end()); });
    default:
      return merge(
          blocks, [](const Block& b) { return std::pair(b.from, b.to); },
          [](Block& a, const Block& b) { a.ports.insert(b.ports.begin(), b.ports.end()); });
  }
}

/// The order of merging affects how many blocks are left, so all six orders are tried.
std::vector<Block> fewest(const std::vector<Block>& blocks) {
  std::vector<Block> best = blocks;
  std::array<int, 3> order = {0, 1, 2};
  do {
    std::vector<Block> current = blocks;
    std::size_t before = 0;
    do {
      before = current.size();
      for (const int dimension : order) {
        current = merge_dimension(current, dimension);
      }
    } while (current.size() < before);
    if (current.size() < best.size()) {
      best = std::move(current);
    }
  } while (std::ranges::next_permutation(order).found);
  return best;
}

/// Joins adjacent ports into ranges.
std::vector<PortRange> joined_ports(const std::set<PortRange>& ports) {
  std::vector<PortRange> result;
  for (const PortRange& range : ports) {
    if (!result.empty() && result.back().protocol == range.protocol &&
        result.back().last + 1U >= range.first) {
      result.back().last = std::max(result.back().last, range.last);
    } else {
      result.push_back(range);
    }
  }
  return result;
}

PortRange port_of(const SeenFlow& flow) {
  const bool has_ports = flow.protocol == IPPROTO_TCP || flow.protocol == IPPROTO_UDP;
  return {flow.protocol, has_ports ? flow.port : std::uint16_t{0},
          has_ports ? flow.port : std::uint16_t{65535}};
}

std::string end_text(const SeenEnd& end) {
  return end.workload.empty() ? end.text() : fmt::format("{} ({})", end.workload, end.text());
}

std::string flow_text(const SeenFlow& flow) {
  return fmt::format("{} -> {} {}", end_text(flow.from), end_text(flow.to),
                     port_text(flow.protocol, flow.port));
}

class Suggesting {
 public:
  Suggesting(const Policy& policy, const std::vector<SeenFlow>& flows,
             const std::vector<LabelSet>& present)
      : flows_(flows), sides_(policy, present), questions_(udp_questions(flows)) {
    Policy enforced = policy;
    enforced.mode = Mode::enforce;
    for (const Rule& rule : policy.rules) {
      names_.insert(rule.name);
    }
    const NameIndex index(enforced);
    for (std::size_t i = 0; i < flows.size(); ++i) {
      classify(enforced, index, i);
    }
  }

  Suggestion run() {
    make_sides();
    for (const Block& block : fewest(first_blocks())) {
      result_.rules.push_back(rule(block));
    }
    std::ranges::sort(result_.rules, {},
                      [](const SuggestedRule& r) { return std::tuple(r.from, r.to); });
    make_names_unique();
    result_.networks = sides_.networks();
    for (const auto& [why, count] : left_out_) {
      result_.left_out.push_back(
          fmt::format("{} {}: {}", count, count == 1 ? "flow" : "flows", why));
    }
    return std::move(result_);
  }

 private:
  /// Makes rule names unique, because the log identifies rules by name.
  void make_names_unique() {
    for (SuggestedRule& rule : result_.rules) {
      const std::string base = rule.name;
      for (int i = 2; !names_.insert(rule.name).second; ++i) {
        rule.name = fmt::format("{} ({})", base, i);
      }
    }
  }

  /// Pairs of endpoints with a UDP request. In audit mode the answers of a UDP service are reported
  /// as flows of their own, but the rule for the request allows them.
  static std::set<std::pair<std::string, std::string>> udp_questions(
      const std::vector<SeenFlow>& flows) {
    std::set<std::pair<std::string, std::string>> pairs;
    for (const SeenFlow& flow : flows) {
      if (flow.protocol == IPPROTO_UDP && flow.port < kFirstEphemeral) {
        pairs.emplace(exact_text(flow.from), exact_text(flow.to));
      }
    }
    return pairs;
  }

  static std::string exact_text(const SeenEnd& end) {
    return end.labels ? end.labels->encode() : end.address ? end.address->text() : end.text();
  }

  [[nodiscard]] bool is_answer(const SeenFlow& flow) const {
    return flow.protocol == IPPROTO_UDP && flow.port >= kFirstEphemeral &&
           questions_.contains({exact_text(flow.to), exact_text(flow.from)});
  }

  /// Counts a flow as needed, as already allowed, or as one that no new rule can allow.
  void classify(const Policy& enforced, const NameIndex& names, std::size_t index) {
    const SeenFlow& flow = flows_[index];
    const Decision decision = judge(enforced, names, flow);
    if (decision.verdict != Verdict::deny || is_answer(flow)) {
      result_.allowed += flow.count;
    } else if (decision.reason == Reason::deny_rule) {
      left_out_[decision.rule->text() + " denies them; an allow rule cannot override it"] +=
          flow.count;
    } else if (decision.reason == Reason::audited_allow) {
      left_out_[decision.rule->text() + " would allow them: remove its mode = \"audit\""] +=
          flow.count;
    } else if (const std::string why = unnameable(flow); !why.empty()) {
      left_out_[why] += flow.count;
    } else {
      needed_.push_back(index);
      result_.needed += flow.count;
    }
  }

  static std::string unnameable(const SeenFlow& flow) {
    for (const SeenEnd* end : {&flow.from, &flow.to}) {
      if (end->labels && expressible(*end->labels).empty()) {
        return end->labels->empty()
                   ? (end->workload.empty() ? "a workload" : end->workload) +
                         " has no labels: add some (docker run -l app=NAME)"
                   : end_text(*end) +
                         " has no label that a selector can express: add one such as app=NAME";
      }
    }
    const bool known = flow.protocol == IPPROTO_TCP || flow.protocol == IPPROTO_UDP ||
                       flow.protocol == IPPROTO_ICMP || flow.protocol == IPPROTO_ICMPV6;
    return known ? "" : fmt::format("rules cannot allow IP protocol {}", flow.protocol);
  }

  static bool is_dns(const SeenFlow& flow) { return flow.port == 53; }

  void make_sides() {
    for (const std::size_t index : needed_) {
      const SeenFlow& flow = flows_[index];
      sides_.note_use(flow.from,
                      {.is_source = true, .peer = flow.to.text(), .ports = port_of(flow)});
      sides_.note_use(flow.to,
                      {.is_source = false, .peer = flow.from.text(), .ports = port_of(flow)});
    }
    sides_.settle();
  }

  std::vector<Block> first_blocks() {
    std::map<std::tuple<SideId, SideId, std::uint8_t>, Block> pairs;
    for (const std::size_t index : needed_) {
      const SeenFlow& flow = flows_[index];
      const SideId from = sides_.of(flow.from, false);
      const SideId to = sides_.of(flow.to, is_dns(flow));
      Block& block = pairs[{from, to, flow.protocol}];
      block.from = {from};
      block.to = {to};
      block.ports.insert(port_of(flow));
      block.flows.insert(index);
    }
    std::vector<Block> blocks;
    for (auto& [key, pair] : pairs) {
      if (const auto ranges = joined_ports(pair.ports); ranges.size() > kMostPorts) {
        pair.ports = {{ranges.front().protocol, ranges.front().first, ranges.back().last}};
        wide_.insert(*pair.ports.begin());
        blocks.push_back(std::move(pair));
        continue;
      }
      for (const PortRange& port : pair.ports) {
        Block single{pair.from, pair.to, {port}, {}};
        std::ranges::copy_if(pair.flows, std::inserter(single.flows, single.flows.end()),
                             [&](std::size_t index) { return port_of(flows_[index]) == port; });
        blocks.push_back(std::move(single));
      }
    }
    return blocks;
  }

  [[nodiscard]] SuggestedRule rule(const Block& block) const {
    SuggestedRule made;
    made.from = sides_.texts(block.from);
    made.to = sides_.texts(block.to);
    made.ports = joined_ports(block.ports);
    const auto brief = [](const std::vector<std::string>& texts) {
      return texts.size() == 1 ? texts.front()
                               : fmt::format("{} and {} more", texts.front(), texts.size() - 1);
    };
    made.name = fmt::format("{} to {}", brief(made.from), brief(made.to));
    const SeenFlow* most = nullptr;
    for (const std::size_t index : block.flows) {
      const SeenFlow& flow = flows_[index];
      made.flows += flow.count;
      made.last = std::max(made.last, flow.last);
      most = most == nullptr || flow.count > most->count ? &flow : most;
    }
    made.example = most == nullptr ? "" : flow_text(*most);
    for (const auto* side_set : {&block.from, &block.to}) {
      const auto& sides = *side_set;
      if (const std::string caught = sides_.caught(sides); !caught.empty()) {
        made.comments.push_back((side_set == &block.from ? "from " : "to ") + caught);
      }
      for (const SideId side : sides) {
        if (!sides_.comment(side).empty()) {
          made.comments.push_back(sides_.comment(side));
        }
      }
    }
    for (const PortRange& range : block.ports) {
      if (wide_.contains(range)) {
        made.comments.push_back(
            fmt::format("{} is a range in place of more than {} single ports that were seen",
                        range_text(range), kMostPorts));
      }
    }
    return made;
  }

  const std::vector<SeenFlow>& flows_;
  Sides sides_;
  std::set<std::pair<std::string, std::string>> questions_;
  std::vector<std::size_t> needed_;
  std::map<std::string, std::uint64_t> left_out_;
  std::set<PortRange> wide_;
  std::set<std::string> names_;  // of rules
  Suggestion result_;
};

}  // namespace

Suggestion suggest(const Policy& policy, const std::vector<SeenFlow>& flows,
                   const std::vector<LabelSet>& present) {
  return Suggesting(policy, flows, present).run();
}

}  // namespace trireme::policy
