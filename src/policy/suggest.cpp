// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/suggest.hpp"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "suggest_sides.hpp"
#include "trireme/base/counted.hpp"
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
  const std::string text = end.text();
  return end.workload.empty() || end.workload == text ? text
                                                      : fmt::format("{} ({})", end.workload, text);
}

std::string flow_text(const SeenFlow& flow) {
  return fmt::format("{} -> {} {}", end_text(flow.from), end_text(flow.to),
                     port_text(flow.protocol, flow.port));
}

/// The line that gives a workload a label, as far as its name tells what it is.
std::string label_line(const std::string& workload) {
  std::string_view name = workload;
  const bool is_unit = name.ends_with(".service");
  const bool is_scope = name.ends_with(".scope");
  name = name.substr(0, is_unit || is_scope ? name.rfind('.') : name.size());
  name = name.substr(0, name.find('@'));
  // Compose and templates number their instances.
  const std::size_t last = name.find_last_not_of("0123456789");
  if (last != std::string_view::npos && last + 1 < name.size() &&
      (name[last] == '-' || name[last] == '_' || name[last] == '.')) {
    name = name.substr(0, last);
  }
  const std::string app =
      name.empty() || !check_value(name) ? std::string("NAME") : std::string(name);
  return is_unit ? fmt::format("[[unit]] name = {}, labels = {{ app = {} }} in identity.toml",
                               toml_string(workload), toml_string(app))
         : is_scope
             ? fmt::format("trirun -l app={} -- COMMAND", app)
             : fmt::format("docker run -l app={0}; in a compose file: labels: [\"app={0}\"]", app);
}

class Suggesting {
 public:
  Suggesting(const Policy& policy, const std::vector<SeenFlow>& flows,
             const std::vector<LabelSet>& present, const Published& published)
      : flows_(flows), sides_(policy, present), questions_(udp_questions(flows)) {
    for (const auto& [labels, ports] : published) {
      published_[expressible(labels)].insert(ports.begin(), ports.end());
    }
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
      result_.left_out.push_back(fmt::format("{}: {}", counted(count, "flow"), why));
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
        return fmt::format(
            "{} has no label{}: add one: {}", end->workload.empty() ? "a workload" : end->workload,
            end->labels->empty() ? "s" : " that a selector can express", label_line(end->workload));
      }
    }
    const bool known = flow.protocol == IPPROTO_TCP || flow.protocol == IPPROTO_UDP ||
                       flow.protocol == IPPROTO_ICMP || flow.protocol == IPPROTO_ICMPV6;
    return known ? "" : fmt::format("rules cannot allow IP protocol {}", flow.protocol);
  }

  static Role role_of_destination(const SeenFlow& flow) {
    return flow.port == 53 ? Role::name_server : Role::destination;
  }

  void make_sides() {
    for (const std::size_t index : needed_) {
      const SeenFlow& flow = flows_[index];
      sides_.note_use(flow.from, Role::source,
                      {.is_source = true, .peer = flow.to.text(), .ports = port_of(flow)});
      sides_.note_use(flow.to, role_of_destination(flow),
                      {.is_source = false, .peer = flow.from.text(), .ports = port_of(flow)});
    }
    sides_.settle();
  }

  std::vector<Block> first_blocks() {
    std::map<std::tuple<SideId, SideId, std::uint8_t>, Block> pairs;
    for (const std::size_t index : needed_) {
      const SeenFlow& flow = flows_[index];
      const SideId from = sides_.of(flow.from, Role::source);
      const SideId to = sides_.of(flow.to, role_of_destination(flow));
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

  /// ", published port tcp/8080" if other endpoints than workloads reach published ports by the
  /// rule.
  [[nodiscard]] std::string published_as(const Block& block) const {
    std::set<std::string> ports;
    const bool has_outside = std::ranges::any_of(
        block.from, [this](SideId side) { return sides_.labels(side).empty(); });
    for (const SideId side : has_outside ? block.to : std::set<SideId>()) {
      const auto known = published_.find(sides_.labels(side));
      for (const PublishedPort& port :
           known == published_.end() ? std::set<PublishedPort>() : known->second) {
        if (std::ranges::any_of(block.ports, [&](const PortRange& range) {
              return range.contains(port.protocol, port.port);
            })) {
          ports.insert(port_text(port.protocol, port.host_port));
        }
      }
    }
    if (ports.empty()) {
      return "";
    }
    std::string text;
    for (const std::string& port : ports) {
      text += (text.empty() ? "" : ", ") + port;
    }
    return fmt::format(", published port{} {}", ports.size() == 1 ? "" : "s", text);
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
    made.name = fmt::format("{} to {}{}", brief(made.from), brief(made.to), published_as(block));
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
  Published published_;
  std::set<std::string> names_;  // of rules
  Suggestion result_;
};

}  // namespace

Suggestion suggest(const Policy& policy, const std::vector<SeenFlow>& flows,
                   const std::vector<LabelSet>& present, const Published& published) {
  return Suggesting(policy, flows, present, published).run();
}

}  // namespace trireme::policy
