// SPDX-License-Identifier: Apache-2.0
// The [[network]] part of PolicyReader.
#include <fmt/format.h>

#include <algorithm>

#include "policy_reader.hpp"
#include "trireme/base/lower_case.hpp"

namespace trireme::config {
namespace {

bool is_word_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

bool is_dns_label(std::string_view label) {
  return !label.empty() && label.size() <= 63 &&
         std::all_of(label.begin(), label.end(), is_word_character) && label.front() != '-' &&
         label.back() != '-';
}

// RFC 1035, section 2.3.4: at most 253 bytes, in labels of at most 63 bytes. Here, the first label
// can be "*".
bool is_dns_name(std::string_view name) {
  if (name.starts_with("*.")) {
    name.remove_prefix(2);
  }
  if (name.size() > 253) {
    return false;
  }
  for (std::size_t dot = name.find('.'); dot != std::string_view::npos; dot = name.find('.')) {
    if (!is_dns_label(name.substr(0, dot))) {
      return false;
    }
    name.remove_prefix(dot + 1);
  }
  return is_dns_label(name);
}

bool is_network_name(std::string_view name) {
  const std::string lower = lower_case(name);
  return std::all_of(lower.begin(), lower.end(),
                     [](char c) { return is_word_character(c) || c == '.'; });
}

}  // namespace

void PolicyReader::read_network(const TableReader& reader) {
  policy::Network network;
  network.where = reader.where();
  read_network_name(reader, network);
  read_cidrs(reader, network);
  read_dns_names(reader, network);
  if (reader.lacks("cidrs") && reader.lacks("names")) {
    reader.error("this network has no addresses",
                 "add cidrs = [\"10.0.0.0/8\"] or names = [\"deb.example.org\"]");
  }
  if (!network.name.empty() && bounded(policy_.networks.size(), "networks", reader)) {
    networks_.emplace(network.name, policy_.networks.size());
    policy_.networks.push_back(std::move(network));
  }
}

void PolicyReader::read_network_name(const TableReader& reader, policy::Network& network) {
  const auto name = reader.name("name");
  if (!name) {
    if (reader.lacks("name")) {
      reader.error("this network has no 'name'",
                   "rules use it: the network with name = \"corp-dns\" is @corp-dns");
    }
    return;
  }
  const std::string lower = lower_case(name->value);
  if (name->value.starts_with('@')) {
    reader.error(*name, fmt::format("network name '{}' starts with '@'", name->value),
                 "omit the '@' here; only rules use it");
    return;
  }
  if (!is_network_name(name->value)) {
    reader.error(*name, fmt::format("network name '{}' contains an invalid character", name->value),
                 "use letters, digits, and - _ .");
    return;
  }
  if (lower == "host" || lower == "world") {
    reader.error(*name, fmt::format("network name '{}' is reserved for @{}", name->value, lower),
                 "choose another name");
    return;
  }
  const auto [place, first] = network_places_.emplace(lower, reader.where(*name));
  if (!first) {
    reader.error(
        *name,
        fmt::format("network name '{}' is already used at {}", name->value, place->second.text()),
        "use another name, or one network with several cidrs; case is ignored");
    return;
  }
  network.name = name->value;
}

void PolicyReader::read_cidrs(const TableReader& reader, policy::Network& network) {
  for (const Text& text : reader.list("cidrs")) {
    auto prefix = policy::Prefix::parse(text.value);
    if (prefix) {
      network.cidrs.push_back(*prefix);
    } else {
      reporter_.error(reader.document().inside(*text.node, 0), prefix.error());
    }
  }
  if (reader.is_empty_list("cidrs")) {
    reporter_.error(reader.document().at(*reader.find("cidrs")), "'cidrs' is an empty list",
                    "add addresses or remove the key");
  }
}

void PolicyReader::read_dns_names(const TableReader& reader, policy::Network& network) {
  for (const Text& text : reader.list("names")) {
    std::string name = lower_case(text.value);
    if (name.ends_with('.')) {
      name.pop_back();  // the fully qualified form of the name ends in a dot
    }
    if (policy::Prefix::parse(name)) {
      reader.error(text, fmt::format("'{}' is an address, not a name", text.value),
                   "move it to cidrs");
    } else if (!is_dns_name(name)) {
      reader.error(text, fmt::format("invalid DNS name '{}'", text.value),
                   "write deb.example.org, or *.example.org for all names below it");
    } else {
      network.names.push_back(std::move(name));
    }
  }
  if (reader.is_empty_list("names")) {
    reporter_.error(reader.document().at(*reader.find("names")), "'names' is an empty list",
                    "add names or remove the key");
  }
}

}  // namespace trireme::config
