// SPDX-License-Identifier: Apache-2.0
#include "trireme/control/pair_totals.hpp"

#include <algorithm>
#include <ranges>

namespace trireme::control {
namespace {

/// The share of one owner: an eighth. Who can begin flows with many label sets must not displace
/// the pairs of others.
constexpr std::size_t kShares = 8;

std::size_t text_size(const PairTotals::Key& key) {
  return key.from.size() + key.to.size();
}

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

PairTotals::PairTotals(Limits limits)
    : limits_(limits),
      share_{.pairs = std::max<std::size_t>(limits.pairs / kShares, 1),
             .bytes = limits.bytes / kShares} {}

void PairTotals::count(const Flow& flow) {
  Item& item =
      put({identity_text(flow.source), identity_text(flow.destination)}, owner_of(flow.source));
  Totals& totals = item.second.totals;
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
  move_to_front(item);
  make_room(*item.second.owner);
}

void PairTotals::begin_open(Time now) {
  reading_++;
  read_at_ = now;
  left_out_now_ = 0;
}

void PairTotals::add_open(const Key& key, const Open& found) {
  const bool is_known = entries_.contains(key);
  if (!is_known && !has_room_for_open(key, found.owner)) {
    left_out_now_++;
    return;
  }
  Item& item = put(key, found.owner);
  Entry& entry = item.second;
  Totals& totals = entry.totals;
  const bool has_changed = totals.connections != found.connections || found.bytes.value_or(0) != 0;
  remove(item);
  totals.connections = found.connections;
  if (found.bytes) {
    totals.bytes = totals.bytes.value_or(0) + *found.bytes;
  }
  totals.last = std::max(totals.last, read_at_);
  entry.reading = reading_;
  entry.order = has_changed ? ++order_ : entry.order;
  insert(item);
}

void PairTotals::end_open() {
  left_out_ = left_out_now_;
  for (Item& item : entries_) {
    Entry& entry = item.second;
    if (entry.totals.connections != 0 && entry.reading != reading_) {
      remove(item);
      entry.totals.connections = 0;
      entry.order = ++order_;
      insert(item);
    }
  }
}

std::vector<PairTotals::Pair> PairTotals::newest() const {
  std::vector<Pair> pairs;
  pairs.reserve(ranks_.all.size());
  for (const auto& [age, item] : std::views::reverse(ranks_.all)) {
    pairs.push_back({&item->first, &item->second.totals, &item->second.owner->name});
  }
  return pairs;
}

/// The pair. A new one is the newest, and may be one too many.
PairTotals::Item& PairTotals::put(const Key& key, const std::string& owner) {
  const auto [place, is_new] = entries_.try_emplace(key);
  if (is_new) {
    Entry& entry = place->second;
    entry.owner = &owners_.try_emplace(owner, Owner{.name = owner, .ranks = {}}).first->second;
    entry.order = ++order_;
    bytes_ += text_size(key);
    entry.owner->bytes += text_size(key);
    insert(*place);
  }
  return *place;
}

void PairTotals::insert(Item& item) {
  Entry& entry = item.second;
  for (Ranks* ranks : {&ranks_, &entry.owner->ranks}) {
    ranks->all.emplace(entry.order, &item);
    if (entry.totals.connections == 0) {
      ranks->closed.emplace(entry.order, &item);
    }
  }
}

/// Before a change of its order, or of whether it has open connections.
void PairTotals::remove(Item& item) {
  const Entry& entry = item.second;
  for (Ranks* ranks : {&ranks_, &entry.owner->ranks}) {
    ranks->all.erase(entry.order);
    ranks->closed.erase(entry.order);
  }
}

void PairTotals::move_to_front(Item& item) {
  remove(item);
  item.second.order = ++order_;
  insert(item);
}

/// `owner` is that of the newest pair, which stays.
void PairTotals::make_room(const Owner& owner) {
  const Ages& own = owner.ranks.all;
  while (own.size() > 1 && (own.size() > share_.pairs || owner.bytes > share_.bytes)) {
    forget(*own.begin()->second);
  }
  const Ages& all = ranks_.all;
  while (all.size() > 1 && (all.size() > limits_.pairs || bytes_ > limits_.bytes)) {
    forget(*all.begin()->second);
  }
}

/// Makes room for another pair with open connections, if the pairs that it displaces allow it.
bool PairTotals::has_room_for_open(const Key& key, const std::string& owner) {
  const auto make = [&](const Ranks& ranks, const std::size_t& bytes, const Limits& limits) {
    while (!ranks.all.empty() &&
           (ranks.all.size() >= limits.pairs || bytes + text_size(key) > limits.bytes)) {
      if (ranks.closed.size() * 2 <= ranks.all.size()) {
        return false;
      }
      // Its owner, whose ranks these may be, goes with its last pair.
      const bool is_last = ranks.all.size() == 1;
      forget(*ranks.closed.begin()->second);
      if (is_last) {
        break;
      }
    }
    return true;
  };
  const auto known = owners_.find(owner);
  return (known == owners_.end() || make(known->second.ranks, known->second.bytes, share_)) &&
         make(ranks_, bytes_, limits_);
}

void PairTotals::forget(Item& which) {
  remove(which);
  Owner& owner = *which.second.owner;
  bytes_ -= text_size(which.first);
  owner.bytes -= text_size(which.first);
  if (owner.ranks.all.empty()) {
    owners_.erase(owners_.find(owner.name));
  }
  entries_.erase(entries_.find(which.first));
  forgotten_++;
}

}  // namespace trireme::control
