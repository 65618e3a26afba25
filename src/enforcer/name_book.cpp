// SPDX-License-Identifier: Apache-2.0
#include "name_book.hpp"

#include <algorithm>

namespace trireme::enforcer {

using policy::Address;
using std::chrono::seconds;

namespace {

/// How much longer than the TTL an address is kept, so that a repeated answer does not need a
/// transaction each time.
seconds slack(seconds ttl) {
  return std::max(seconds(15), ttl / 4);
}

}  // namespace

void NameBook::sum_up(Known& known) {
  known.networks.clear();
  known.until = {};
  for (const Entry& entry : known.entries) {
    known.networks.insert(known.networks.end(), entry.networks.begin(), entry.networks.end());
    known.until = std::max(known.until, entry.until);
  }
  std::ranges::sort(known.networks);
  known.networks.erase(std::unique(known.networks.begin(), known.networks.end()),
                       known.networks.end());
}

void NameBook::place(Book::iterator known) {
  sum_up(known->second);
  for (const std::size_t network : known->second.networks) {
    by_end_[network].emplace(known->second.until, known->first);
  }
}

void NameBook::displace(Book::const_iterator known) {
  for (const std::size_t network : known->second.networks) {
    by_end_[network].erase({known->second.until, known->first});
  }
}

void NameBook::set_index(std::shared_ptr<const policy::NameIndex> index) {
  index_ = std::move(index);
  by_end_.clear();
  for (auto known = known_.begin(); known != known_.end();) {
    for (Entry& entry : known->second.entries) {
      entry.networks = index_->match(entry.name);
    }
    std::erase_if(known->second.entries, [](const Entry& entry) { return entry.networks.empty(); });
    if (known->second.entries.empty()) {
      known = known_.erase(known);
    } else {
      place(known++);
    }
  }
}

void NameBook::learn(const std::string& name, const Address& address, seconds ttl, Time now,
                     Change& change) {
  const Networks networks = index_->match(name);
  if (networks.empty()) {
    return;
  }
  ttl = std::clamp(ttl, kLeast, kMost);
  const auto [known, fresh] = known_.try_emplace(address);
  auto& entries = known->second.entries;
  const auto same = std::ranges::find(entries, networks, &Entry::networks);
  if (same != entries.end() && same->until >= now + ttl) {
    same->name = name;
    return;
  }
  displace(known);
  if (same == entries.end()) {
    for (const std::size_t network : networks) {
      if (!std::ranges::binary_search(known->second.networks, network)) {
        make_room(network, address, change);
      }
    }
    entries.push_back({name, networks, now + ttl + slack(ttl)});
  } else {
    same->name = name;
    same->until = now + ttl + slack(ttl);
  }
  place(known);
  change.gone.erase(address);
  change.written.insert(address);
}

void NameBook::make_room(std::size_t network, const Address& keep, Change& change) {
  auto& ends = by_end_[network];
  while (ends.size() >= kMostAddresses) {
    const Address address = ends.begin()->second;
    if (address == keep) {
      break;
    }
    const auto known = known_.find(address);
    displace(known);
    known_.erase(known);
    change.written.erase(address);
    change.gone.insert(address);
    change.evicted[network]++;
  }
}

std::vector<Address> NameBook::due(Time now) const {
  std::vector<Address> result;
  for (const auto& [address, known] : known_) {
    if (std::ranges::any_of(known.entries,
                            [now](const Entry& entry) { return entry.until <= now; })) {
      result.push_back(address);
    }
  }
  return result;
}

void NameBook::end(Time now, const std::set<Address>& in_use, Change& change) {
  for (const Address& address : due(now)) {
    const auto known = known_.find(address);
    displace(known);
    if (in_use.contains(address)) {
      for (Entry& entry : known->second.entries) {
        entry.until = std::max(entry.until, now + kLeast);
      }
    }
    std::erase_if(known->second.entries, [now](const Entry& entry) { return entry.until <= now; });
    if (known->second.entries.empty()) {
      known_.erase(known);
      change.gone.insert(address);
    } else {
      place(known);
      change.written.insert(address);
    }
  }
}

NameBook::Networks NameBook::networks(const Address& address) const {
  const auto known = known_.find(address);
  return known == known_.end() ? Networks() : known->second.networks;
}

std::vector<std::string> NameBook::names(const Address& address) const {
  std::vector<std::string> result;
  if (const auto known = known_.find(address); known != known_.end()) {
    std::ranges::transform(known->second.entries, std::back_inserter(result), &Entry::name);
  }
  return result;
}

NameBook::Time NameBook::until(const Address& address) const {
  const auto known = known_.find(address);
  return known == known_.end() ? Time() : known->second.until;
}

std::vector<Address> NameBook::all() const {
  std::vector<Address> result;
  std::ranges::transform(known_, std::back_inserter(result),
                         [](const auto& item) { return item.first; });
  return result;
}

}  // namespace trireme::enforcer
