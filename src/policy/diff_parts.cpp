// SPDX-License-Identifier: Apache-2.0
#include "diff_parts.hpp"

#include <algorithm>
#include <string>

#include "trireme/policy/expiry.hpp"
#include "trireme/policy/explain.hpp"

namespace trireme::policy {
namespace {

std::string cidr_list(const Network& network) {
  std::string text;
  for (const Prefix& cidr : network.cidrs) {
    text += cidr.text() + " ";
  }
  for (const std::string& name : network.names) {
    text += name + " ";
  }
  return text;
}

/// Canonical text of what a rule does, without its name and place. Networks are replaced by their
/// addresses.
std::string meaning(const Policy& policy, const Rule& rule) {
  std::string text = rule.action == Rule::Action::allow ? "allow" : "deny";
  text += rule.mode == Mode::audit ? " audit" : "";
  for (const auto* side : {&rule.from, &rule.to}) {
    std::set<std::string> peers;
    for (const Peer& peer : *side) {
      const auto* entity = std::get_if<Entity>(&peer);
      const bool is_network = entity != nullptr && entity->kind == Entity::Kind::network &&
                              entity->network < policy.networks.size();
      peers.insert(is_network ? "@ " + cidr_list(policy.networks[entity->network])
                              : peer_text(policy, peer));
    }
    text += " |";
    for (const std::string& peer : peers) {
      text += " " + peer;
    }
  }
  std::set<std::string> ports;
  for (const PortRange& range : rule.ports) {
    ports.insert(range_text(range));
  }
  for (const std::string& port : ports) {
    text += " " + port;
  }
  return text;
}

void add_party(std::vector<Party>& parties, std::set<std::string>& known, Party party) {
  if (known.insert(party.text).second) {
    parties.push_back(std::move(party));
  }
}

}  // namespace

std::set<std::size_t> rules_of_its_own(const Policy& policy, const Policy& other) {
  std::set<std::string> there;
  for (const Rule& rule : other.rules) {
    there.insert(meaning(other, rule));
  }
  std::set<std::size_t> own;
  for (std::size_t i = 0; i < policy.rules.size(); ++i) {
    if (!there.contains(meaning(policy, policy.rules[i]))) {
      own.insert(i);
    }
  }
  return own;
}

std::size_t differing_rules(const Policy& before, const Policy& after) {
  const auto meanings = [](const Policy& policy) {
    std::set<std::string> list;
    for (const Rule& rule : policy.rules) {
      list.insert(meaning(policy, rule) + (rule.log ? " log" : "") +
                  (rule.until ? " until " + text(*rule.until) : ""));
    }
    return list;
  };
  std::vector<std::string> differing;
  std::ranges::set_symmetric_difference(meanings(before), meanings(after),
                                        std::back_inserter(differing));
  return differing.size();
}

void add_entities(std::vector<Party>& parties, const Policy& before, const Policy& after) {
  std::set<std::string> known;
  const auto find = [](const Policy& policy, const std::string& name) {
    const auto found = std::ranges::find(policy.networks, name, &Network::name);
    return found == policy.networks.end() ? nullptr : &*found;
  };
  for (const Policy* policy : {&before, &after}) {
    for (Party& party : entities_of(*policy)) {
      add_party(parties, known, std::move(party));
    }
  }
  for (const Policy* policy : {&before, &after}) {
    const Policy& other = policy == &before ? after : before;
    for (const Network& network : policy->networks) {
      const Network* there = find(other, network.name);
      if (there == nullptr) {
        continue;
      }
      for (const Prefix& cidr : network.cidrs) {
        if (std::ranges::find(there->cidrs, cidr) == there->cidrs.end()) {
          add_party(parties, known,
                    {.kind = Endpoint::Kind::world,
                     .labels = {},
                     .address = cidr.address,
                     .text = cidr.text(),
                     .members = {}});
        }
      }
      for (const std::string& name : network.names) {
        if (std::ranges::find(there->names, name) == there->names.end()) {
          add_party(parties, known,
                    {.kind = Endpoint::Kind::world,
                     .labels = {},
                     .address = {},
                     .text = name,
                     .members = {},
                     .name = name});
        }
      }
    }
  }
}

std::vector<PortRange> ranges_of(const std::vector<Opening>& openings) {
  std::vector<PortRange> ranges;
  for (const Opening& opening : openings) {
    const bool continues = !ranges.empty() && ranges.back().protocol == opening.ports.protocol &&
                           ranges.back().last + 1U == opening.ports.first;
    if (continues) {
      ranges.back().last = opening.ports.last;
    } else {
      ranges.push_back(opening.ports);
    }
  }
  return ranges;
}

std::vector<PortRange> minus(const std::vector<PortRange>& ranges,
                             const std::vector<PortRange>& without) {
  std::vector<PortRange> result;
  for (const PortRange& range : ranges) {
    std::uint32_t first = range.first;
    for (const PortRange& hole : without) {
      if (hole.protocol != range.protocol || hole.last < first || hole.first > range.last) {
        continue;
      }
      if (hole.first > first) {
        result.push_back({range.protocol, static_cast<std::uint16_t>(first),
                          static_cast<std::uint16_t>(hole.first - 1)});
      }
      first = hole.last + 1U;
    }
    if (first <= range.last) {
      result.push_back({range.protocol, static_cast<std::uint16_t>(first), range.last});
    }
  }
  return result;
}

}  // namespace trireme::policy
