// SPDX-License-Identifier: Apache-2.0
// Rules without effect, because another rule includes them.
#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <limits>
#include <map>
#include <string>
#include <string_view>

#include "lint_parts.hpp"
#include "trireme/base/counted.hpp"

namespace trireme::policy {
namespace {

using Kind = Finding::Kind;
using Operator = Requirement::Operator;

using Values = std::vector<std::string>;  // of a requirement: sorted

constexpr std::uint16_t kLastPort = std::numeric_limits<std::uint16_t>::max();

bool is_pattern(std::string_view value) {
  return value.ends_with('*');
}

std::string_view without_star(std::string_view pattern) {
  return pattern.substr(0, pattern.size() - (is_pattern(pattern) ? 1 : 0));
}

/// Whether `outer` matches every value that `inner` matches.
bool value_includes(std::string_view outer, std::string_view inner) {
  return is_pattern(outer) ? without_star(inner).starts_with(without_star(outer)) : outer == inner;
}

/// The values that are patterns.
std::vector<std::string_view> patterns_of(const Values& values) {
  std::vector<std::string_view> patterns;
  for (const std::string& value : values) {
    if (is_pattern(value)) {
      patterns.emplace_back(value);
    }
  }
  return patterns;
}

/// Whether the value is one of `values`, or one of their `patterns` includes it.
bool is_included(const Values& values, const std::vector<std::string_view>& patterns,
                 const std::string& value, Effort& effort) {
  return std::ranges::binary_search(values, value) ||
         (effort.spend(patterns.size() + 1) &&
          std::ranges::any_of(patterns, [&value](std::string_view pattern) {
            return value_includes(pattern, value);
          }));
}

/// Whether some pattern of `outer` includes each of `inner`.
bool each_is_included(const Values& outer, const Values& inner, Effort& effort) {
  if (!effort.spend(outer.size() + inner.size())) {
    return false;
  }
  const auto patterns = patterns_of(outer);
  return std::ranges::all_of(
      inner, [&](const std::string& value) { return is_included(outer, patterns, value, effort); });
}

/// Whether no value is matched by one of each.
bool none_meets(const Values& a, const Values& b, Effort& effort) {
  if (!effort.spend(a.size() + b.size())) {
    return false;
  }
  const auto patterns = patterns_of(b);
  const bool meets = std::ranges::any_of(a, [&](const std::string& value) {
    if (is_included(b, patterns, value, effort)) {
      return true;
    }
    const std::string begin(without_star(value));
    const auto next = std::ranges::lower_bound(b, begin);
    return is_pattern(value) && next != b.end() && next->starts_with(begin);
  });
  return !meets && !effort.is_spent();
}

/// Whether a label set that meets `given` also meets `required`, which has the same key.
bool implies(const Requirement& given, const Requirement& required, Effort& effort) {
  switch (required.op) {
    case Operator::in:
      return given.op == Operator::in && each_is_included(required.values, given.values, effort);
    case Operator::exists:
      return given.needs_key();
    case Operator::not_in:
      return given.op == Operator::not_exists ||
             (given.op == Operator::in && none_meets(given.values, required.values, effort)) ||
             (given.op == Operator::not_in &&
              each_is_included(given.values, required.values, effort));
    case Operator::not_exists:
      return given.op == Operator::not_exists;
  }
  return false;
}

/// Whether no label set that meets `given` also meets `other`, which has the same key.
bool excludes(const Requirement& given, const Requirement& other, Effort& effort) {
  switch (given.op) {
    case Operator::in:
      return other.op == Operator::not_exists ||
             (other.op == Operator::in && none_meets(given.values, other.values, effort)) ||
             (other.op == Operator::not_in && each_is_included(other.values, given.values, effort));
    case Operator::exists:
      return other.op == Operator::not_exists ||
             (other.op == Operator::not_in && each_is_included(other.values, {"*"}, effort));
    case Operator::not_in:
    case Operator::not_exists:
      return false;
  }
  return false;
}

bool includes(const Selector& outer, const Selector& inner, Effort& effort) {
  return std::ranges::all_of(outer.requirements(), [&](const Requirement& required) {
    return std::ranges::any_of(inner.requirements(), [&](const Requirement& given) {
      return effort.spend(1) && given.key == required.key && implies(given, required, effort);
    });
  });
}

/// Whether every endpoint that one of `inner` covers is covered by one of `outer`. May be false
/// although that is so; never true if it is not.
bool includes(const std::vector<Peer>& outer, const std::vector<Peer>& inner, Effort& effort) {
  const auto covers_all = [&effort](const Peer& wider, const Peer& peer) {
    const auto* selector = std::get_if<Selector>(&wider);
    const auto* narrow = std::get_if<Selector>(&peer);
    return effort.spend(1) &&
           (selector != nullptr && narrow != nullptr ? includes(*selector, *narrow, effort)
                                                     : wider == peer);
  };
  return std::ranges::all_of(inner, [&](const Peer& peer) {
    return std::ranges::any_of(outer, [&](const Peer& wider) { return covers_all(wider, peer); });
  });
}

/// A range without port 0, which TCP and UDP do not use.
PortRange usable(PortRange range) {
  if (range.protocol == IPPROTO_TCP || range.protocol == IPPROTO_UDP) {
    range.first = std::max<std::uint16_t>(range.first, 1);
  }
  return range;
}

/// Sorted ranges, those that touch combined.
std::vector<PortRange> combined(const std::vector<PortRange>& ranges) {
  std::vector<PortRange> sorted;
  std::ranges::transform(ranges, std::back_inserter(sorted), usable);
  std::ranges::sort(sorted);
  std::vector<PortRange> result;
  for (const PortRange& range : sorted) {
    if (!result.empty() && result.back().protocol == range.protocol &&
        range.first <= result.back().last + 1U) {
      result.back().last = std::max(result.back().last, range.last);
    } else {
      result.push_back(range);
    }
  }
  return result;
}

/// The same for ports as combined() returns them. Empty: every protocol and port.
bool includes(const std::vector<PortRange>& outer, const std::vector<PortRange>& inner,
              Effort& effort) {
  if (outer.empty() || inner.empty()) {
    return outer.empty();
  }
  return std::ranges::all_of(inner, [&](const PortRange& range) {
    // Only the last one that does not begin later can include it.
    const auto next =
        std::ranges::upper_bound(outer, PortRange{range.protocol, range.first, kLastPort});
    return effort.spend(1) && next != outer.begin() &&
           std::prev(next)->protocol == range.protocol && range.last <= std::prev(next)->last;
  });
}

/// A rule, and its ports in the form in which many are compared.
struct Compared {
  const Rule* rule;
  std::vector<PortRange> ports;
};

/// Whether `inner` has no effect while `outer` is there.
bool makes_useless(const Compared& outer_rule, const Compared& inner_rule, Effort& effort) {
  const Rule& outer = *outer_rule.rule;
  const Rule& inner = *inner_rule.rule;
  const bool same_action = outer.action == inner.action;
  const bool denies = outer.action == Rule::Action::deny;
  const bool counts = outer.mode == Mode::enforce || (same_action && inner.mode == Mode::audit);
  const bool lasts = !outer.until || (inner.until && *inner.until <= *outer.until);
  return (same_action || denies) && counts && lasts && (outer.log || !inner.log) &&
         includes(outer_rule.ports, inner_rule.ports, effort) &&
         includes(outer.from, inner.from, effort) && includes(outer.to, inner.to, effort);
}

/// A word that any alternative has in common with those that include it: see lookups().
std::string anchor(const Peer& peer) {
  if (const auto* entity = std::get_if<Entity>(&peer)) {
    return fmt::format("@{} {}", static_cast<int>(entity->kind), entity->network);
  }
  const auto& requirements = std::get<Selector>(peer).requirements();
  for (const Requirement& requirement : requirements) {
    if (const auto* values = requirement.exact_values(); values != nullptr && values->size() == 1) {
      return requirement.key + "=" + values->front();
    }
  }
  return requirements.empty() ? "*" : requirements.front().key;
}

/// The anchors that an alternative which includes `peer` can have.
std::vector<std::string> lookups(const Peer& peer) {
  const auto* selector = std::get_if<Selector>(&peer);
  if (selector == nullptr) {
    return {anchor(peer)};
  }
  std::vector<std::string> words = {"*"};
  for (const Requirement& requirement : selector->requirements()) {
    words.push_back(requirement.key);
    if (requirement.op == Operator::in && requirement.values.size() == 1) {
      words.push_back(requirement.key + "=" + requirement.values.front());
    }
  }
  return words;
}

/// Finds the rules that can include a rule, without comparing it with all others.
class Index {
 public:
  explicit Index(const std::vector<Rule>& rules) {
    for (std::size_t i = 0; i < rules.size(); ++i) {
      add(from_, rules[i].from, i);
      add(to_, rules[i].to, i);
    }
  }
  /// Indices of rules, in file order.
  [[nodiscard]] std::vector<std::size_t> candidates(const Rule& rule, Effort& effort) const {
    const Lists by_from = find(from_, rule.from.front());
    const Lists by_to = find(to_, rule.to.front());
    const Lists& fewer = by_from.count <= by_to.count ? by_from : by_to;
    std::vector<std::size_t> found;
    if (!effort.spend(fewer.count)) {
      return found;
    }
    for (const auto* list : fewer.lists) {
      found.insert(found.end(), list->begin(), list->end());
    }
    std::ranges::sort(found);
    found.erase(std::ranges::unique(found).begin(), found.end());
    return found;
  }

 private:
  using Map = std::map<std::string, std::vector<std::size_t>, std::less<>>;
  static void add(Map& map, const std::vector<Peer>& peers, std::size_t rule) {
    for (const Peer& peer : peers) {
      auto& list = map[anchor(peer)];
      if (list.empty() || list.back() != rule) {
        list.push_back(rule);
      }
    }
  }
  /// Lists of rules. A rule can be in several.
  struct Lists {
    std::vector<const std::vector<std::size_t>*> lists;
    std::size_t count = 0;
  };
  static Lists find(const Map& map, const Peer& peer) {
    Lists found;
    for (const std::string& word : lookups(peer)) {
      if (const auto list = map.find(word); list != map.end()) {
        found.lists.push_back(&list->second);
        found.count += list->second.size();
      }
    }
    return found;
  }
  Map from_;
  Map to_;
};

Finding without_effect(const Rule& rule, const Rule& other, bool equal) {
  if (rule.action != other.action) {
    return {
        Kind::shadowed, rule.where,
        fmt::format("this rule has no effect: {} denies everything that it allows", other.text()),
        "a deny rule overrides every allow rule; narrow it, or remove this rule"};
  }
  if (equal) {
    return {Kind::duplicate, rule.where, fmt::format("this rule repeats {}", other.text()),
            "remove one of them"};
  }
  return {Kind::shadowed, rule.where,
          fmt::format("this rule has no effect: {} includes it", other.text()),
          "remove it, or narrow the other rule"};
}

}  // namespace

bool contradict(const Requirement& a, const Requirement& b, Effort& effort) {
  return excludes(a, b, effort) || excludes(b, a, effort);
}

void find_rules_without_effect(const Policy& policy, std::vector<Finding>& findings) {
  const std::vector<Rule>& rules = policy.rules;
  const Index index(rules);
  std::vector<Compared> compared;
  for (const Rule& rule : rules) {
    compared.push_back({&rule, combined(rule.ports)});
  }
  Effort effort;
  for (std::size_t i = 0; i < rules.size(); ++i) {
    for (const std::size_t j : index.candidates(rules[i], effort)) {
      if (j == i || !makes_useless(compared[j], compared[i], effort)) {
        continue;
      }
      // Of two rules that include each other, only the later one is reported.
      const bool equal = makes_useless(compared[i], compared[j], effort);
      if (effort.is_spent()) {
        break;
      }
      if (!equal || j < i) {
        findings.push_back(without_effect(rules[i], rules[j], equal));
        break;
      }
    }
    if (effort.is_spent()) {
      findings.push_back({Kind::unfinished, rules[i].where,
                          fmt::format("this rule and {} after it were not compared with the others",
                                      counted(rules.size() - i - 1, "rule")),
                          "too many rules have the same selectors, or lists are too long"});
      return;
    }
  }
}

}  // namespace trireme::policy
