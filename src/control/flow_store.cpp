// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "trireme/control/flow.hpp"

namespace trireme::control {
namespace {

std::string end_key(const FlowEnd& end) {
  if (end.labels) {
    return "l" + end.labels->encode() + '\0' + end.host + '\0' +
           (end.labels->has_own() ? "" : end.workload);
  }
  return (end.quarantined ? "q"
          : end.ended     ? "e"
                          : end.entity) +
         '\0' + end.workload + '\0' + (end.address ? end.address->text() : "");
}

std::size_t end_size(const FlowEnd& end) {
  std::size_t bytes = 0;
  for (const auto* words : {&end.networks, &end.names}) {
    for (const std::string& word : *words) {
      bytes += word.size() + sizeof(std::string);
    }
  }
  if (end.labels) {
    for (const auto& [key, value] : end.labels->items()) {
      bytes += key.size() + value.size() + 100;  // estimate of a map node
    }
  }
  return bytes + end.workload.size() + end.host.size();
}

std::size_t size_of(const Flow& flow) {
  return sizeof(Flow) + end_size(flow.source) + end_size(flow.destination) + flow.rule.size() +
         flow.reason.size() + flow.cause.size() + flow.policy.size();
}

/// Prefix of owners that are addresses outside this host, without an identity.
constexpr std::string_view kStranger = "address ";

bool is_stranger(std::string_view owner) {
  return owner.starts_with(kStranger);
}

}  // namespace

std::string flow_owner(const Flow& flow) {
  const FlowEnd& source = flow.source;
  if (!source.host.empty()) {
    return "host " + source.host;
  }
  if (!source.workload.empty() || source.labels) {
    return "workload " + (source.workload.empty() ? source.labels->text() : source.workload);
  }
  if (source.entity != "@world" || !source.address) {
    return source.entity.empty() ? "workloads in quarantine" : source.entity;
  }
  policy::Address address = *source.address;
  if (address.family == policy::Address::Family::v6) {
    std::fill(address.bytes.begin() + 8, address.bytes.end(), std::uint8_t{0});
    return std::string(kStranger) + address.text() + "/64";
  }
  return std::string(kStranger) + address.text();
}

std::string flow_key(const Flow& flow) {
  std::string key = end_key(flow.source) + '\0' + end_key(flow.destination) + '\0';
  key += static_cast<char>(flow.verdict);
  key += static_cast<char>(flow.protocol);
  key += std::to_string(flow.port);
  return key + '\0' + flow.rule + '\0' + flow.reason + '\0' + flow.cause;
}

FlowStore::Owner& FlowStore::Pot::owner(const Flow& flow) {
  std::string name = flow_owner(flow);
  const auto [place, fresh] = owners.try_emplace(std::move(name));
  if (fresh) {
    place->second.name = place->first;
  }
  return place->second;
}

FlowStore::Pot::Size FlowStore::Pot::size(Owner& of) {
  return {of.bytes, of.kept.empty() ? 0 : ~of.kept.front().order, &of};
}

FlowStore::List::iterator FlowStore::Pot::put(Owner& of, Kept kept) {
  const std::size_t kind = is_stranger(of.name) ? 1 : 0;
  by_size.at(kind).erase(size(of));
  of.bytes += kept.bytes;
  bytes.at(kind) += kept.bytes;
  count++;
  kept.owner = &of;
  const auto added = of.kept.insert(of.kept.end(), std::move(kept));
  by_size.at(kind).insert(size(of));
  return added;
}

FlowStore::Kept FlowStore::Pot::take(List::iterator which) {
  Owner& of = *which->owner;
  const std::size_t kind = is_stranger(of.name) ? 1 : 0;
  by_size.at(kind).erase(size(of));
  of.bytes -= which->bytes;
  bytes.at(kind) -= which->bytes;
  count--;
  Kept taken = std::move(*which);
  of.kept.erase(which);
  if (of.kept.empty()) {
    owners.erase(owners.find(of.name));
  } else {
    by_size.at(kind).insert(size(of));
  }
  return taken;
}

FlowStore::List::iterator FlowStore::Pot::victim() {
  const std::size_t kind = bytes[1] > bytes[0] ? 1 : 0;
  return std::get<Owner*>(*by_size.at(kind).rbegin())->kept.begin();
}

const Flow& FlowStore::add(Flow flow) {
  count(flow);
  Kept kept;
  kept.order = ++order_;
  kept.bytes = size_of(flow);
  kept.tally = {.last = std::move(flow), .first = {}, .count = 1};
  Owner& of = recent_.owner(kept.tally.last);
  const auto added = recent_.put(of, std::move(kept));
  while (recent_.is_over(limits_.recent, limits_.bytes) && recent_.victim() != added) {
    recent_.take(recent_.victim());
  }
  return added->tally.last;
}

void FlowStore::count(const Flow& flow) {
  std::string key = flow_key(flow);
  Kept kept;
  if (const auto found = by_key_.find(key); found != by_key_.end()) {
    const auto place = found->second;
    by_key_.erase(found);
    kept = tallies_.take(place);
  } else {
    kept.tally.first = flow.time;
  }
  kept.key = std::move(key);
  kept.order = ++order_;
  kept.tally.last = flow;
  kept.tally.count++;
  kept.bytes = kept.key.size() + size_of(kept.tally.last) + sizeof(Kept);
  const auto added = tallies_.put(tallies_.owner(flow), std::move(kept));
  by_key_[added->key] = added;
  while (tallies_.is_over(limits_.tallies, limits_.bytes) && tallies_.victim() != added) {
    by_key_.erase(tallies_.victim()->key);
    tallies_.take(tallies_.victim());
    forgotten_++;
  }
}

std::vector<const Flow*> FlowStore::recent(const FlowFilter& filter, std::size_t limit) const {
  std::vector<const Kept*> found;
  for (const auto& [name, owner] : recent_.owners) {
    for (const Kept& kept : owner.kept) {
      if (filter.matches(kept.tally.last)) {
        found.push_back(&kept);
      }
    }
  }
  std::ranges::sort(found, {}, &Kept::order);
  std::vector<const Flow*> flows;
  for (std::size_t i = found.size() - std::min(found.size(), limit); i < found.size(); i++) {
    flows.push_back(&found[i]->tally.last);
  }
  return flows;
}

std::vector<const FlowTally*> FlowStore::tallies(const FlowFilter& filter, std::size_t limit,
                                                 std::size_t* left_out) const {
  std::vector<const Kept*> found;
  for (const auto& [name, owner] : tallies_.owners) {
    for (const Kept& kept : owner.kept) {
      if (filter.matches(kept.tally.last)) {
        found.push_back(&kept);
      }
    }
  }
  std::ranges::sort(found, [](const Kept* a, const Kept* b) {
    return std::pair(a->tally.count, a->order) > std::pair(b->tally.count, b->order);
  });
  if (left_out != nullptr) {
    *left_out = found.size() - std::min(found.size(), limit);
  }
  found.resize(std::min(found.size(), limit));
  std::vector<const FlowTally*> tallies;
  std::ranges::transform(found, std::back_inserter(tallies),
                         [](const Kept* kept) { return &kept->tally; });
  return tallies;
}

}  // namespace trireme::control
