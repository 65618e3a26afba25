// SPDX-License-Identifier: Apache-2.0
// Rules that cover more than their name says.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "lint_parts.hpp"
#include "trireme/base/lower_case.hpp"
#include "trireme/policy/explain.hpp"
#include "trireme/policy/ports.hpp"

namespace trireme::policy {
namespace {

using Operator = Requirement::Operator;
using Words = std::vector<std::string>;

/// In a name, these say that everything is meant.
constexpr std::array<std::string_view, 15> kEverything = {
    "all",        "any",   "anyone",   "anybody",   "anything",
    "each",       "every", "everyone", "everybody", "everything",
    "everywhere", "more",  "workload", "workloads", "*"};
/// In a name, these say that not every protocol and port is meant.
constexpr std::array<std::string_view, 14> kServices = {
    "ssh",   "http",  "https", "dns",      "ntp",        "smtp", "ldap",
    "ldaps", "mysql", "redis", "postgres", "postgresql", "icmp", "ping"};

bool is_word_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' ||
         c == '/' || c == '*' || (static_cast<unsigned char>(c) & 0x80U) != 0;
}

Words split(std::string_view text) {
  Words words;
  std::string word;
  for (const char c : lower_case(text) + " ") {
    if (is_word_character(c)) {
      word += c;
    } else if (!word.empty()) {
      words.push_back(std::move(word));
      word.clear();
    }
  }
  return words;
}

template <std::size_t Size>
bool is_one_of(const std::array<std::string_view, Size>& list, std::string_view word) {
  return std::ranges::find(list, word) != list.end();
}

/// A name of the form "web to db" or "web -> db".
struct SidesOfName {
  Words from;
  Words to;
};
std::optional<SidesOfName> sides_of(std::string_view name) {
  for (const std::string_view separator : {" -> ", " → ", " to "}) {
    if (const std::size_t at = name.find(separator); at != std::string_view::npos) {
      return SidesOfName{split(name.substr(0, at)), split(name.substr(at + separator.size()))};
    }
  }
  return std::nullopt;
}

/// The word of the name that is the value of a label, if there is one and nothing says that
/// everything is meant.
std::optional<std::string> meant(const Words& words, const Vocabulary& known) {
  if (std::ranges::any_of(words, [](const auto& word) { return is_one_of(kEverything, word); })) {
    return std::nullopt;
  }
  const auto found =
      std::ranges::find_if(words, [&](const auto& word) { return !known.keys_of(word).empty(); });
  return found == words.end() ? std::nullopt : std::optional(*found);
}

/// "web-canary" and "web*" are named by "web", and "web" by "webs".
bool is_named(std::string_view value, const Words& words) {
  const std::string plain = lower_case(value.substr(0, value.find('*')));
  return std::ranges::any_of(words, [&plain](const std::string& word) {
    return plain.starts_with(word) || (!plain.empty() && word.starts_with(plain));
  });
}

/// What an alternative covers although the name does not say so; empty if nothing.
std::string beyond_name(const Peer& peer, const Words& words, const std::string& value,
                        const Vocabulary& known) {
  if (const auto* entity = std::get_if<Entity>(&peer)) {
    const bool world = entity->kind == Entity::Kind::world && !is_named("world", words) &&
                       !is_named("internet", words);
    const bool host = entity->kind == Entity::Kind::host && !is_named("host", words);
    return world ? "@world" : host ? "@host" : "";
  }
  const auto& selector = std::get<Selector>(peer);
  if (selector.requirements().empty()) {
    return "every workload";
  }
  const auto& keys = known.keys_of(value);
  std::string beyond;
  for (const Requirement& requirement : selector.requirements()) {
    if (!keys.contains(requirement.key)) {
      continue;
    }
    if (requirement.op == Operator::exists && beyond.empty()) {
      beyond = fmt::format("every {}", requirement.key);
    }
    if (requirement.op != Operator::in) {
      continue;
    }
    const auto other = std::ranges::find_if_not(
        requirement.values, [&words](const auto& item) { return is_named(item, words); });
    if (other == requirement.values.end()) {
      return {};  // whatever the other conditions are, they only narrow it
    }
    if (beyond.empty()) {
      beyond = fmt::format("{}={}", requirement.key, *other);
    }
  }
  return beyond;
}

void check_side(const Rule& rule, const char* side, const std::vector<Peer>& peers,
                const Words& words, const Vocabulary& known, std::vector<Finding>& findings) {
  const auto value = meant(words, known);
  if (!value) {
    return;
  }
  for (const Peer& peer : peers) {
    if (const std::string beyond = beyond_name(peer, words, *value, known); !beyond.empty()) {
      findings.push_back({Finding::Kind::name, rule.where,
                          fmt::format("this rule is wider than its name '{}': '{}' also matches {}",
                                      rule.name, side, beyond),
                          "narrow it, or give it another name"});
      return;
    }
  }
}

/// Services whose name is in the name of a network: "web to dns" can mean the network.
std::set<std::string_view> services_in_networks(const Policy& policy) {
  std::set<std::string_view> services;
  for (const Network& network : policy.networks) {
    const std::string name = lower_case(network.name);
    std::ranges::copy_if(
        kServices, std::inserter(services, services.end()),
        [&name](std::string_view service) { return name.find(service) != std::string::npos; });
  }
  return services;
}

/// A name that says a port or a service, for a rule that covers every port.
void check_ports(const Rule& rule, const Vocabulary& known,
                 const std::set<std::string_view>& networks, std::vector<Finding>& findings) {
  if (!rule.ports.empty()) {
    return;
  }
  for (const std::string& word : split(rule.name)) {
    const bool is_label = !known.keys_of(word).empty() || known.has_key(word);
    const bool is_port = word.find('/') != std::string::npos && parse_port(word);
    if (is_port || (is_one_of(kServices, word) && !is_label && !networks.contains(word))) {
      findings.push_back({Finding::Kind::name, rule.where,
                          fmt::format("this rule is wider than its name '{}': it has no 'ports', "
                                      "so it covers every protocol and port",
                                      rule.name),
                          "add ports, or give it another name"});
      return;
    }
  }
}

}  // namespace

void find_wide_rules(const Policy& policy, const Vocabulary& known,
                     std::vector<Finding>& findings) {
  const auto networks = services_in_networks(policy);
  for (const Rule& rule : policy.rules) {
    if (const auto sides = sides_of(rule.name)) {
      check_side(rule, "from", rule.from, sides->from, known, findings);
      check_side(rule, "to", rule.to, sides->to, known, findings);
    }
    check_ports(rule, known, networks, findings);
  }
}

}  // namespace trireme::policy
