// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/lint.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string_view>
#include <tuple>

#include "lint_parts.hpp"
#include "trireme/policy/explain.hpp"
#include "trireme/policy/names.hpp"

namespace trireme::policy {
namespace {

using Kind = Finding::Kind;
using Operator = Requirement::Operator;

/// Ends of DNS names that people write without thinking of labels.
constexpr std::array<std::string_view, 19> kTopLevel = {
    "com", "org",   "net",  "edu",  "gov",     "mil",       "int",   "info", "biz",     "dev",
    "app", "cloud", "arpa", "test", "example", "localhost", "local", "lan",  "internal"};

/// The country codes of ISO 3166 that are top-level domains, and ac, eu, su, uk.
constexpr auto kCountries = std::to_array<std::string_view>(
    {"ac", "ad", "ae", "af", "ag", "ai", "al", "am", "ao", "aq", "ar", "as", "at", "au", "aw", "ax",
     "az", "ba", "bb", "bd", "be", "bf", "bg", "bh", "bi", "bj", "bm", "bn", "bo", "br", "bs", "bt",
     "bv", "bw", "by", "bz", "ca", "cc", "cd", "cf", "cg", "ch", "ci", "ck", "cl", "cm", "cn", "co",
     "cr", "cu", "cv", "cw", "cx", "cy", "cz", "de", "dj", "dk", "dm", "do", "dz", "ec", "ee", "eg",
     "er", "es", "et", "eu", "fi", "fj", "fk", "fm", "fo", "fr", "ga", "gb", "gd", "ge", "gf", "gg",
     "gh", "gi", "gl", "gm", "gn", "gp", "gq", "gr", "gs", "gt", "gu", "gw", "gy", "hk", "hm", "hn",
     "hr", "ht", "hu", "id", "ie", "il", "im", "in", "io", "iq", "ir", "is", "it", "je", "jm", "jo",
     "jp", "ke", "kg", "kh", "ki", "km", "kn", "kp", "kr", "kw", "ky", "kz", "la", "lb", "lc", "li",
     "lk", "lr", "ls", "lt", "lu", "lv", "ly", "ma", "mc", "md", "me", "mg", "mh", "mk", "ml", "mm",
     "mn", "mo", "mp", "mq", "mr", "ms", "mt", "mu", "mv", "mw", "mx", "my", "mz", "na", "nc", "ne",
     "nf", "ng", "ni", "nl", "no", "np", "nr", "nu", "nz", "om", "pa", "pe", "pf", "pg", "ph", "pk",
     "pl", "pm", "pn", "pr", "ps", "pt", "pw", "py", "qa", "re", "ro", "rs", "ru", "rw", "sa", "sb",
     "sc", "sd", "se", "sg", "sh", "si", "sj", "sk", "sl", "sm", "sn", "so", "sr", "ss", "st", "su",
     "sv", "sx", "sy", "sz", "tc", "td", "tf", "tg", "th", "tj", "tk", "tl", "tm", "tn", "to", "tr",
     "tt", "tv", "tw", "tz", "ua", "ug", "uk", "us", "uy", "uz", "va", "vc", "ve", "vg", "vi", "vn",
     "vu", "wf", "ws", "ye", "yt", "za", "zm", "zw"});
static_assert(std::ranges::is_sorted(kCountries));

/// Keys of labels begin with such a word if they contain a domain: com.docker.compose.project.
constexpr std::array<std::string_view, 6> kReversed = {"com", "org", "net", "io", "dev", "app"};

bool is_lower_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
}

bool is_top_level(std::string_view word) {
  return std::ranges::binary_search(kCountries, word) ||
         std::ranges::find(kTopLevel, word) != kTopLevel.end();
}

bool looks_like_address(std::string_view key) {
  return std::ranges::count(key, '.') == 3 &&
         key.find_first_not_of("0123456789./") == std::string_view::npos;
}

bool looks_like_dns_name(std::string_view key) {
  const std::size_t last = key.rfind('.');
  return last != std::string_view::npos && is_top_level(key.substr(last + 1)) &&
         std::ranges::find(kReversed, key.substr(0, key.find('.'))) == kReversed.end() &&
         std::ranges::all_of(key, [](char c) { return c == '.' || is_lower_alphanumeric(c); });
}

void add_labels_of_tests(const Policy& policy, Vocabulary& known) {
  for (const PolicyTest& test : policy.tests) {
    for (const TestPeer* end : {&test.from, &test.to}) {
      if (const auto* labels = std::get_if<LabelSet>(&end->peer)) {
        known.add(*labels);
      }
    }
  }
}

/// Adds the labels that selectors compare with a value.
void add_labels_of_selectors(const Policy& policy, Vocabulary& known) {
  for (const Rule& rule : policy.rules) {
    for (const auto* peers : {&rule.from, &rule.to}) {
      for (const Peer& peer : *peers) {
        if (const auto* selector = std::get_if<Selector>(&peer)) {
          for (const Requirement& requirement : selector->requirements()) {
            for (const std::string& value : requirement.values) {
              known.add(requirement.key, value);
            }
          }
        }
      }
    }
  }
}

/// A value "~web", as in `app=~web`, which is a regular expression elsewhere.
void check_regular_expression(const Vocabulary& known, const Rule& rule, const char* side,
                              const Requirement& requirement, std::vector<Finding>& findings) {
  const auto tilde = std::ranges::find_if(requirement.values, [&](const std::string& value) {
    return value.starts_with('~') && value.size() > 1 && !known.has_value(requirement.key, value);
  });
  if (tilde != requirement.values.end()) {
    findings.push_back(
        {Kind::selector, rule.where,
         fmt::format("'{}' in '{}' is read as a value that begins with '~', not as a regular "
                     "expression",
                     *tilde, side),
         fmt::format("did you mean '{}'? A value can end in '*', which matches a prefix",
                     tilde->substr(1))});
  }
}

/// At most this many conditions on one key are compared with each other.
constexpr std::ptrdiff_t kMostConditions = 100;

/// Conditions of one selector that no workload can meet together. Reports the first.
void check_contradiction(const Rule& rule, const char* side, const Selector& selector,
                         Effort& effort, std::vector<Finding>& findings) {
  const auto& all = selector.requirements();  // sorted by key
  for (auto a = all.begin(); a != all.end(); ++a) {
    const auto last = a + std::min(kMostConditions, all.end() - a);
    for (auto b = a + 1; b != last && b->key == a->key; ++b) {
      if (effort.spend(1) && contradict(*a, *b, effort)) {
        findings.push_back(
            {Kind::selector, rule.where,
             fmt::format("a selector in '{}' matches no workload: '{}' contradicts '{}'", side,
                         a->text(), b->text()),
             fmt::format("a comma means AND; for either of them, write a list: {} = [\"{}\", "
                         "\"{}\"]",
                         side, a->text(), b->text())});
        return;
      }
    }
  }
}

/// Finds networks by an address or a DNS name.
class NetworkFinder {
 public:
  explicit NetworkFinder(const Policy& policy) {
    for (const Network& network : policy.networks) {
      for (const Prefix& prefix : network.cidrs) {
        by_prefix_.emplace(prefix, &network);
      }
      for (const std::string& name : network.names) {
        by_name_.emplace(name, &network);
      }
    }
  }
  /// The name of the first network that has this address or DNS name.
  [[nodiscard]] std::optional<std::string> find(const std::string& key) const {
    if (const auto prefix = Prefix::parse(key)) {
      const auto found = by_prefix_.find(*prefix);
      return found == by_prefix_.end() ? std::nullopt : std::optional(found->second->name);
    }
    const auto found = by_name_.find(key);
    return found == by_name_.end() ? std::nullopt : std::optional(found->second->name);
  }

 private:
  std::map<Prefix, const Network*> by_prefix_;
  std::map<std::string_view, const Network*> by_name_;
};

Finding not_a_label(const NetworkFinder& networks, const Rule& rule, const char* side,
                    const std::string& key, const char* what, const char* list) {
  const auto network = networks.find(key);
  return {Kind::selector, rule.where,
          fmt::format("'{}' in '{}' is read as a label key, not as {}", key, side, what),
          network
              ? fmt::format("did you mean '@{}'?", *network)
              : fmt::format("define a [[network]] with name = \"NAME\" and {0} = [\"{1}\"], and "
                            "write {2} = \"@NAME\"",
                            list, key, side)};
}

void check_requirement(const NetworkFinder& networks, const Vocabulary& known, const Rule& rule,
                       const char* side, const Requirement& requirement,
                       std::vector<Finding>& findings) {
  const std::string& key = requirement.key;
  const bool bare = requirement.op == Operator::exists || requirement.op == Operator::not_exists;
  if (!bare || known.has_key(key)) {
    return;
  }
  if (looks_like_address(key)) {
    findings.push_back(not_a_label(networks, rule, side, key, "an address", "cidrs"));
  } else if (networks.find(key) || looks_like_dns_name(key)) {
    findings.push_back(not_a_label(networks, rule, side, key, "a DNS name", "names"));
  } else if (const auto& keys = known.keys_of(key); !keys.empty()) {
    findings.push_back(
        {Kind::selector, rule.where,
         fmt::format("'{}' in '{}' is read as a label key, but only label values are called that",
                     key, side),
         fmt::format("did you mean '{}={}'?", fmt::join(keys, fmt::format("={}' or '", key)),
                     key)});
  }
}

/// `before`: labels that exist apart from the policy's selectors; `known`: with these.
void find_misread_selectors(const Policy& policy, const Vocabulary& before, const Vocabulary& known,
                            std::vector<Finding>& findings) {
  const NetworkFinder networks(policy);
  Effort effort;
  for (const Rule& rule : policy.rules) {
    for (const auto& [side, peers] : {std::pair{"from", &rule.from}, {"to", &rule.to}}) {
      for (const Peer& peer : *peers) {
        const auto* selector = std::get_if<Selector>(&peer);
        if (selector == nullptr) {
          continue;
        }
        for (const Requirement& requirement : selector->requirements()) {
          check_requirement(networks, known, rule, side, requirement, findings);
          check_regular_expression(before, rule, side, requirement, findings);
        }
        check_contradiction(rule, side, *selector, effort, findings);
      }
    }
  }
  if (effort.is_spent()) {
    findings.push_back({Kind::unfinished,
                        {},
                        "not every selector was checked for contradictions",
                        "too many conditions have the same key, or lists are too long"});
  }
}

void mark_used(const Peer& peer, std::vector<bool>& used) {
  if (const auto* entity = std::get_if<Entity>(&peer);
      entity != nullptr && entity->kind == Entity::Kind::network) {
    used[entity->network] = true;
  }
}

void find_unused_networks(const Policy& policy, std::vector<Finding>& findings) {
  std::vector<bool> used(policy.networks.size());
  for (const Rule& rule : policy.rules) {
    for (const auto* peers : {&rule.from, &rule.to}) {
      std::ranges::for_each(*peers, [&used](const Peer& peer) { mark_used(peer, used); });
    }
  }
  for (std::size_t i = 0; i < used.size(); ++i) {
    if (!used[i]) {
      const Network& network = policy.networks[i];
      findings.push_back({Kind::network, network.where,
                          fmt::format("no rule uses the network '{}'", network.name),
                          fmt::format("remove it, or write \"@{}\" in a rule", network.name)});
    }
  }
}

/// Ranges that another range of the same rule includes.
void find_repeated_ports(const Policy& policy, std::vector<Finding>& findings) {
  for (const Rule& rule : policy.rules) {
    auto ports = rule.ports;
    // The widest range with the same start comes first.
    std::ranges::sort(ports, [](const PortRange& a, const PortRange& b) {
      return std::tuple(a.protocol, a.first, b.last) < std::tuple(b.protocol, b.first, a.last);
    });
    const PortRange* widest = nullptr;
    for (const PortRange& range : ports) {
      if (widest != nullptr && widest->protocol == range.protocol && range.last <= widest->last) {
        findings.push_back({Kind::ports, rule.where,
                            fmt::format("'ports' lists {} although {} includes it",
                                        range_text(range), range_text(*widest)),
                            "remove it"});
      } else {
        widest = &range;
      }
    }
  }
}

}  // namespace

const char* text(Finding::Kind kind) {
  switch (kind) {
    case Kind::selector:
      return "selector";
    case Kind::shadowed:
      return "shadowed";
    case Kind::duplicate:
      return "duplicate";
    case Kind::name:
      return "name";
    case Kind::network:
      return "network";
    case Kind::ports:
      return "ports";
    case Kind::unfinished:
      return "unfinished";
  }
  return "unknown";
}

bool warns_at_load(Finding::Kind kind) {
  return kind == Kind::selector || kind == Kind::shadowed || kind == Kind::duplicate ||
         kind == Kind::name;
}

void Vocabulary::add(const LabelSet& labels) {
  for (const auto& [key, value] : labels.items()) {
    add(key, value);
  }
}

void Vocabulary::add(const std::string& key, const std::string& value) {
  values_[key].insert(value);
  keys_[value].insert(key);
}

bool Vocabulary::has_value(std::string_view key, std::string_view pattern) const {
  const auto values = values_.find(key);
  return values != values_.end() &&
         std::ranges::any_of(values->second, [pattern](const std::string& value) {
           return matches_pattern(pattern, value);
         });
}

const std::set<std::string>& Vocabulary::keys_of(std::string_view value) const {
  static const std::set<std::string> kNone;
  const auto found = keys_.find(value);
  return found == keys_.end() ? kNone : found->second;
}

std::vector<Finding> lint(const Policy& policy, Vocabulary known) {
  add_labels_of_tests(policy, known);
  const Vocabulary before = known;
  add_labels_of_selectors(policy, known);
  std::vector<Finding> findings;
  find_misread_selectors(policy, before, known, findings);
  find_rules_without_effect(policy, findings);
  find_wide_rules(policy, known, findings);
  find_unused_networks(policy, findings);
  find_repeated_ports(policy, findings);
  return findings;
}

}  // namespace trireme::policy
