// SPDX-License-Identifier: Apache-2.0
#include "trireme/control/pair_totals.hpp"

#include <algorithm>
#include <ranges>

namespace trireme::control {
namespace {

/// The share of one owner: an eighth. Who can begin flows with many label sets must not displace
/// the pairs of others.
constexpr std::size_t kShares = 8;

}  // namespace

std::string identity_text(const policy::LabelSet& labels) {
  return labels.empty() ? "(no labels)" : labels.text();
}

std::string identity_text(const FlowEnd& end) {
  if (end.labels) {
    return identity_text(*end.labels);
  }
  if (end.quarantined || end.ended) {
    return end.quarantined ? "(quarantined)" : "(ended)";
  }
  if (end.entity != "@world" || end.networks.empty()) {
    return end.entity;
  }
  std::string text;
  for (const std::string& network : end.networks) {
    text += (text.empty() ? "@" : ",@") + network;
  }
  return text;
}

std::string PairTotals::owner_of(const FlowEnd& source) {
  if (source.entity == "@world") {
    return source.entity;
  }
  Flow flow;
  flow.source = source;
  return flow_owner(flow);
}

void PairTotals::count(const Flow& flow) {
  Totals& totals =
      touch({identity_text(flow.source), identity_text(flow.destination)}, owner_of(flow.source));
  totals.last = std::max(totals.last, flow.time);
  switch (flow.verdict) {
    case policy::Verdict::allow:
      totals.allowed++;
      break;
    case policy::Verdict::deny:
      totals.denied++;
      break;
    case policy::Verdict::audit:
      totals.audited++;
      break;
  }
}

void PairTotals::set_open(const std::map<Key, Open>& open, Time now) {
  for (auto& [key, entry] : entries_) {
    entry.totals.connections = 0;
  }
  for (const auto& [key, found] : open) {
    Totals& totals = touch(key, found.owner);
    totals.connections = found.connections;
    totals.bytes = totals.bytes.value_or(0) + found.bytes;
    totals.last = std::max(totals.last, now);
  }
}

std::vector<PairTotals::Pair> PairTotals::newest() const {
  std::vector<Pair> pairs;
  pairs.reserve(ages_.size());
  for (const auto& [age, entry] : std::views::reverse(ages_)) {
    pairs.push_back({&entry->first, &entry->second.totals});
  }
  return pairs;
}

/// The totals of the pair, which becomes the newest. The reference is valid until the next call.
PairTotals::Totals& PairTotals::touch(const Key& key, const std::string& owner) {
  const auto [place, is_new] = entries_.try_emplace(key);
  Entry& entry = place->second;
  if (is_new) {
    entry.owner = &owners_.try_emplace(owner, Owner{.name = owner, .ages = {}}).first->second;
    bytes_ += key.from.size() + key.to.size();
  } else {
    ages_.erase(entry.order);
    entry.owner->ages.erase(entry.order);
  }
  entry.order = ++order_;
  ages_.emplace(entry.order, &*place);
  entry.owner->ages.emplace(entry.order, &*place);
  if (is_new) {
    make_room(*entry.owner);
  }
  return entry.totals;
}

/// `owner` is that of the newest pair, which stays.
void PairTotals::make_room(const Owner& owner) {
  if (owner.ages.size() > std::max<std::size_t>(limits_.pairs / kShares, 1)) {
    forget(*owner.ages.begin()->second);
  }
  while (ages_.size() > 1 && (ages_.size() > limits_.pairs || bytes_ > limits_.bytes)) {
    forget(*ages_.begin()->second);
  }
}

void PairTotals::forget(Item& which) {
  Owner& owner = *which.second.owner;
  ages_.erase(which.second.order);
  owner.ages.erase(which.second.order);
  bytes_ -= which.first.from.size() + which.first.to.size();
  if (owner.ages.empty()) {
    owners_.erase(owners_.find(owner.name));
  }
  entries_.erase(entries_.find(which.first));
  forgotten_++;
}

}  // namespace trireme::control
