// SPDX-License-Identifier: Apache-2.0
#include "policy_reader.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "words.hpp"

namespace trireme::config {
namespace {

using policy::Rule;

/// In the order of the words in shape.cpp.
const std::vector<policy::Mode> kModes = {policy::Mode::enforce, policy::Mode::audit};

bool all_entities(const std::vector<policy::Peer>& peers) {
  return std::all_of(peers.begin(), peers.end(), [](const policy::Peer& peer) {
    return std::holds_alternative<policy::Entity>(peer);
  });
}

}  // namespace

void PolicyReader::read(const std::vector<Document>& documents) {
  MergedSection defaults(policy_shape(), "defaults");
  std::vector<TableReader> files;
  for (const Document& document : documents) {
    const TableReader& top =
        files.emplace_back(document, policy_shape(), identity_shape(), reporter_);
    defaults.add(top);
    for (const TableReader& entry : top.entries("network")) {
      read_network(entry);
    }
  }
  read_defaults(defaults);
  for (const TableReader& top : files) {
    for (const TableReader& entry : top.entries("allow")) {
      read_rule(entry, Rule::Action::allow);
    }
    for (const TableReader& entry : top.entries("deny")) {
      read_rule(entry, Rule::Action::deny);
    }
    for (const TableReader& entry : top.entries("test")) {
      read_test(entry);
    }
  }
}

void PolicyReader::read_defaults(const MergedSection& section) {
  using policy::Baseline;
  using policy::Refuse;
  if (section.empty()) {
    return;
  }
  section.at("mode").choice<policy::Mode>("mode", kModes, policy_.mode);
  section.at("baseline")
      .choice<Baseline>("baseline",
                        {Baseline::same_labels, Baseline::any_common_label, Baseline::none},
                        policy_.baseline);
  section.at("refuse").choice<Refuse>("refuse", {Refuse::reject, Refuse::drop}, policy_.refuse);
  policy_.tell_peers = section.at("tell_peers").boolean("tell_peers").value_or(true);
}

bool PolicyReader::bounded(std::size_t count, std::string_view what, const TableReader& reader) {
  if (count == kMaxEntries) {
    reporter_.error(reader.where(), fmt::format("more than {} {}", kMaxEntries, what),
                    "use selectors and lists to cover many peers with one rule");
  }
  return count < kMaxEntries;
}

void PolicyReader::read_rule(const TableReader& reader, Rule::Action action) {
  Rule rule;
  rule.action = action;
  rule.where = reader.where();
  const std::size_t errors = reporter_.errors();
  read_rule_name(reader, rule);
  rule.from = read_peers(reader, "from");
  rule.to = read_peers(reader, "to");
  read_rule_ports(reader, rule);
  rule.log = reader.boolean("log").value_or(false);
  reader.choice<policy::Mode>("mode", kModes, rule.mode);
  rule.until = reader.time("until");
  if (reader.is_sound() && reporter_.errors() == errors) {
    check_rule(reader, rule);
  }
  if (bounded(policy_.rules.size(), "rules", reader)) {
    policy_.rules.push_back(std::move(rule));
  }
}

void PolicyReader::read_rule_name(const TableReader& reader, Rule& rule) {
  const auto name = reader.name("name");
  if (!name) {
    return;
  }
  rule.name = name->value;
  const auto [place, first] = rule_places_.emplace(name->value, reader.where(*name));
  if (!first) {
    reader.error(
        *name,
        fmt::format("rule name '{}' is already used at {}", name->value, place->second.text()),
        "log lines name rules, so each needs its own name");
  }
}

std::vector<policy::Peer> PolicyReader::read_peers(const TableReader& reader,
                                                   std::string_view side) {
  const std::vector<Text> texts = reader.list(side);
  if (reader.lacks(side)) {
    reader.error(fmt::format("this rule has no '{}'", side),
                 fmt::format("{} = \"*\" matches every workload", side));
  }
  if (reader.is_empty_list(side)) {
    reporter_.error(reader.document().at(*reader.find(side)),
                    fmt::format("'{}' is an empty list, which matches nothing", side),
                    "\"*\" matches every workload");
  }
  std::vector<policy::Peer> peers;
  for (const Text& text : texts) {
    if (auto peer = read_peer(reader, text, networks_)) {
      peers.push_back(std::move(*peer));
    }
  }
  return peers;
}

void PolicyReader::read_rule_ports(const TableReader& reader, Rule& rule) {
  if (reader.is_empty_list("ports")) {
    reporter_.error(reader.document().at(*reader.find("ports")),
                    "'ports' is an empty list, which matches nothing",
                    "remove it to match every port");
  }
  for (const Text& text : reader.list("ports")) {
    const auto ports = read_ports(reader, text);
    if (!ports) {
      continue;
    }
    rule.ports.push_back(*ports);
    if (const std::string usual = ports_text(*ports); usual != text.value) {
      port_forms_.push_back({policy::Finding::Kind::ports, reader.where(text),
                             fmt::format("'{}' is another form of '{}'", text.value, usual),
                             fmt::format("write \"{}\"", usual)});
    }
  }
}

void PolicyReader::check_rule(const TableReader& reader, const Rule& rule) {
  if (all_entities(rule.from) && all_entities(rule.to)) {
    reporter_.error(reader.where(), "this rule can never match: neither side can be a workload",
                    "trireme only decides on flows of workloads; use a selector on one side");
    return;
  }
  check_rule_networks(rule);
}

// An address of a DNS name is known once a workload has received it in a DNS answer. Until then, an
// allow rule does not allow it, which is safe, but a deny rule does not deny it.
void PolicyReader::check_rule_networks(const Rule& rule) {
  if (rule.action != Rule::Action::deny) {
    return;
  }
  std::vector<policy::Peer> peers = rule.from;
  peers.insert(peers.end(), rule.to.begin(), rule.to.end());
  for (const auto& peer : peers) {
    const auto* entity = std::get_if<policy::Entity>(&peer);
    if (entity != nullptr && entity->kind == policy::Entity::Kind::network &&
        !policy_.networks[entity->network].names.empty()) {
      reporter_.warn(
          rule.where,
          fmt::format("this deny rule only matches addresses of '@{}' that a workload received in "
                      "a DNS answer; addresses known in another way are not denied",
                      policy_.networks[entity->network].name),
          "deny by cidrs, or allow only the DNS names that you need");
    }
  }
}

std::optional<policy::TestPeer> PolicyReader::read_test_peer(const TableReader& reader,
                                                             std::string_view side) {
  if (reader.lacks(side)) {
    reader.error(fmt::format("this test has no '{}'", side),
                 fmt::format("add {} = {{ app = \"web\" }}", side));
  }
  if (!reader.has(side)) {
    return std::nullopt;
  }
  const std::size_t errors = reporter_.errors();
  if (reader.is_table(side)) {
    policy::TestPeer peer{reader.labels(side), std::nullopt};
    return reporter_.errors() == errors ? std::optional(std::move(peer)) : std::nullopt;
  }
  const auto written = reader.text(side);
  if (!written) {
    return std::nullopt;
  }
  auto peer = parse_test_peer(written->value, networks_, reporter_.suggests());
  if (!peer) {
    reporter_.error(reader.where(*written), peer.error());
    return std::nullopt;
  }
  return std::move(*peer);
}

void PolicyReader::read_test(const TableReader& reader) {
  policy::PolicyTest test;
  test.where = reader.where();
  auto from = read_test_peer(reader, "from");
  auto to = read_test_peer(reader, "to");
  const std::size_t errors = reporter_.errors();
  if (const auto port = reader.text("port")) {
    test.port = read_ports(reader, *port);
  }
  reader.choice<bool>("expect", {true, false}, test.expect_allow);
  if (reader.lacks("expect")) {
    reader.error("this test has no 'expect'", "add expect = \"allow\" or expect = \"deny\"");
  }
  if (!from || !to || !reader.is_sound() || reporter_.errors() != errors) {
    return;
  }
  if (std::holds_alternative<policy::Entity>(from->peer) &&
      std::holds_alternative<policy::Entity>(to->peer)) {
    reader.error("neither side of this test is a workload",
                 "give one side labels: { app = \"web\" }");
    return;
  }
  test.from = std::move(*from);
  test.to = std::move(*to);
  policy_.tests.push_back(std::move(test));
}

}  // namespace trireme::config
