// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/access.hpp"

#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <set>

#include "trireme/policy/explain.hpp"

namespace trireme::policy {
namespace {

/// The protocols that rules can name.
constexpr std::array<std::uint8_t, 4> kProtocols = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP,
                                                    IPPROTO_ICMPV6};

bool side_covers(const Policy& policy, const std::vector<Peer>& peers, const Endpoint& end) {
  return std::ranges::any_of(peers, [&](const Peer& peer) { return covers(policy, peer, end); });
}

/// The first ports of ranges within which none of these rules begins or ends.
std::set<std::uint32_t> port_steps(const std::vector<Rule>& rules, std::uint8_t protocol) {
  std::set<std::uint32_t> starts = {0};
  if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) {
    return starts;
  }
  for (const Rule& rule : rules) {
    for (const PortRange& range : rule.ports) {
      if (range.protocol == protocol) {
        starts.insert(range.first);
        starts.insert(range.last + 1U);
      }
    }
  }
  starts.erase(65536);
  return starts;
}

}  // namespace

Endpoint Party::endpoint(std::span<const std::size_t> named) const {
  return {.kind = kind,
          .labels = kind == Endpoint::Kind::workload ? &labels : nullptr,
          .workload = 0,
          .address = address,
          .named = named};
}

Party party_of(LabelSet labels) {
  Party party;
  party.text = labels.empty() ? "(no labels)" : labels.text();
  party.labels = std::move(labels);
  return party;
}

std::vector<Party> entities_of(const Policy& policy) {
  std::vector<Party> parties(2);
  parties[0].kind = Endpoint::Kind::host;
  parties[0].text = "@host";
  parties[1].kind = Endpoint::Kind::world;
  parties[1].text = "@world";
  for (const Network& network : policy.networks) {
    Party party = {.kind = Endpoint::Kind::world,
                   .labels = {},
                   .address = {},
                   .text = "@" + network.name,
                   .members = {}};
    if (!network.cidrs.empty()) {
      party.address = network.cidrs.front().address;
      party.kind = party.address->is_loopback() ? Endpoint::Kind::host : Endpoint::Kind::world;
    } else if (!network.names.empty()) {
      party.name = network.names.front();
    } else {
      continue;
    }
    parties.push_back(std::move(party));
  }
  return parties;
}

std::string ports_text(const std::vector<PortRange>& ranges) {
  std::string text;
  std::set<std::uint8_t> whole;
  for (const PortRange& range : ranges) {
    const bool all = range.first == 0 && range.last == 65535;
    if (all) {
      whole.insert(range.protocol);
    }
    const bool has_ports = range.protocol == IPPROTO_TCP || range.protocol == IPPROTO_UDP;
    const std::string word =
        all && has_ports ? (range.protocol == IPPROTO_TCP ? "tcp" : "udp") : range_text(range);
    text += (text.empty() ? "" : ", ") + word;
  }
  return whole.size() == kProtocols.size() ? "all ports" : text.empty() ? "none" : text;
}

AccessMap::AccessMap(const Policy& policy, const std::vector<Party>& parties)
    : policy_(policy), parties_(parties) {
  scratch_.mode = Mode::enforce;
  scratch_.baseline = policy.baseline;
  scratch_.networks = policy.networks;
  std::map<std::pair<std::vector<std::size_t>, std::vector<std::size_t>>, std::size_t> signatures;
  const NameIndex index(policy);
  for (const Party& party : parties) {
    named_.push_back(party.name.empty() ? std::vector<std::size_t>() : index.match(party.name));
    const Endpoint end = party.endpoint(named_.back());
    std::vector<std::size_t> from;
    std::vector<std::size_t> to;
    for (std::size_t i = 0; i < policy.rules.size(); ++i) {
      if (side_covers(policy, policy.rules[i].from, end)) {
        from.push_back(i);
      }
      if (side_covers(policy, policy.rules[i].to, end)) {
        to.push_back(i);
      }
    }
    // Parties without labels never share a class, not even with workloads: the baseline applies
    // only to workloads.
    const auto signature = std::pair(from, to);
    auto& known = signatures;
    const bool is_workload = party.kind == Endpoint::Kind::workload;
    const auto found = known.find(signature);
    if (is_workload && found != known.end()) {
      classes_.push_back(found->second);
      continue;
    }
    if (is_workload) {
      known[signature] = from_rules_.size();
    }
    classes_.push_back(from_rules_.size());
    from_rules_.push_back(std::move(from));
    to_rules_.push_back(std::move(to));
  }
}

AccessMap::Relation AccessMap::relation(const Party& from, const Party& to) {
  if (from.kind != Endpoint::Kind::workload || to.kind != Endpoint::Kind::workload) {
    return Relation::none;
  }
  const bool shares = from.labels.shares_a_label(to.labels);
  return from.labels.same_labels(to.labels) ? (shares ? Relation::equal : Relation::alike)
         : shares                           ? Relation::share
                                            : Relation::none;
}

AccessMap::Relation AccessMap::seen_by(Baseline baseline, Relation relation) {
  const bool same = relation == Relation::equal || relation == Relation::alike;
  const bool shares = relation == Relation::equal || relation == Relation::share;
  switch (baseline) {
    case Baseline::same_labels:
      return same ? Relation::equal : Relation::none;
    case Baseline::any_common_label:
      return shares ? Relation::share : Relation::none;
    case Baseline::none:
      break;
  }
  return Relation::none;
}

const std::vector<Opening>& AccessMap::between(std::size_t from, std::size_t to) {
  const Relation pair = seen_by(policy_.baseline, relation(parties_[from], parties_[to]));
  const auto key = std::tuple(classes_[from], classes_[to], pair);
  auto found = known_.find(key);
  if (found == known_.end()) {
    found = known_.emplace(key, open(from, to)).first;
  }
  return found->second;
}

std::vector<Opening> AccessMap::open(std::size_t from, std::size_t to) {
  const Endpoint source = endpoint(from);
  const Endpoint destination = endpoint(to);
  if (source.kind != Endpoint::Kind::workload && destination.kind != Endpoint::Kind::workload) {
    return {};  // policy does not apply
  }
  std::vector<std::size_t> rules;
  std::ranges::set_intersection(from_rules_[classes_[from]], to_rules_[classes_[to]],
                                std::back_inserter(rules));
  scratch_.rules.clear();
  for (const std::size_t rule : rules) {
    scratch_.rules.push_back(policy_.rules[rule]);
  }
  std::vector<Opening> openings;
  for (const std::uint8_t protocol : kProtocols) {
    const auto starts = port_steps(scratch_.rules, protocol);
    for (auto start = starts.begin(); start != starts.end(); ++start) {
      const Decision decision =
          evaluate(scratch_, source, destination, protocol, static_cast<std::uint16_t>(*start));
      if (decision.verdict == Verdict::deny) {
        continue;
      }
      const std::uint32_t end = std::next(start) == starts.end() ? 65535 : *std::next(start) - 1;
      const Rule* rule =
          decision.rule == nullptr
              ? nullptr
              : &policy_
                     .rules[rules[static_cast<std::size_t>(decision.rule - scratch_.rules.data())]];
      Opening* last = openings.empty() ? nullptr : &openings.back();
      const bool continues = last != nullptr && last->ports.protocol == protocol &&
                             last->ports.last + 1U == *start && last->rule == rule &&
                             last->reason == decision.reason;
      if (continues) {
        last->ports.last = static_cast<std::uint16_t>(end);
      } else {
        openings.push_back(
            {{protocol, static_cast<std::uint16_t>(*start), static_cast<std::uint16_t>(end)},
             decision.reason,
             rule});
      }
    }
  }
  return openings;
}

}  // namespace trireme::policy
