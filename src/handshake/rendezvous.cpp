// SPDX-License-Identifier: Apache-2.0
#include "trireme/handshake/rendezvous.hpp"

#include <cstring>

#include "aged_table.hpp"

namespace trireme::handshake {
namespace {

/// TCP repeats a SYN for this long (tcp_syn_retries 6).
constexpr Milliseconds kAge{130'000};

/// The key is made of the number alone, because others can choose addresses and ports.
FlowKey table_key(std::uint64_t request) {
  FlowKey key;
  std::memcpy(key.local.bytes.data(), &request, sizeof request);
  return key;
}

}  // namespace

struct Rendezvous::Table {
  struct Entry {
    FlowKey key;
    Milliseconds since{};
    Departure departure;
    Meeting meeting;
  };
  Table(std::size_t capacity, std::uint64_t seed) : entries(capacity, seed, nullptr) {}

  [[nodiscard]] Entry* find(std::uint64_t request) { return entries.find(table_key(request)); }
  [[nodiscard]] Entry* find(std::uint64_t request, Milliseconds now) {
    Entry* known = find(request);
    return known != nullptr && known->since + kAge > now ? known : nullptr;
  }
  void expire(Milliseconds now) {
    constexpr int kAtATime = 2;
    for (int count = 0; count < kAtATime; count++) {
      Entry* oldest = entries.oldest(0);
      if (oldest == nullptr || oldest->since + kAge > now) {
        break;
      }
      entries.remove(*oldest);
    }
  }

  AgedTable<Entry, 1> entries;
  Crowding crowding;
};

Rendezvous::Rendezvous(std::size_t capacity, std::uint64_t seed)
    : table_(std::make_unique<Table>(capacity, seed)) {}
Rendezvous::~Rendezvous() = default;

void Rendezvous::depart(const Departure& departure, Milliseconds now) {
  const std::scoped_lock lock(mutex_);
  table_->expire(now);
  auto& entries = table_->entries;
  if (Table::Entry* known = table_->find(departure.request)) {
    entries.move(*known, 0, now);  // a repetition; the decision stays
    return;
  }
  if (Table::Entry* surplus = entries.surplus()) {
    table_->crowding.note(entries.shares().largest(), now);
    entries.remove(*surplus);
  }
  Table::Entry& made =
      entries.make(table_key(departure.request), Owner::workload(departure.client->number), 0, now);
  made.departure = departure;
}

std::optional<Departure> Rendezvous::arrive(std::uint64_t request, Milliseconds now) const {
  const std::scoped_lock lock(mutex_);
  const Table::Entry* known = table_->find(request, now);
  return known == nullptr ? std::nullopt : std::optional(known->departure);
}

void Rendezvous::decide(std::uint64_t request, const Meeting& meeting) {
  const std::scoped_lock lock(mutex_);
  if (Table::Entry* known = table_->find(request)) {
    known->meeting = meeting;
  }
}

Meeting Rendezvous::meeting(const FlowKey& key, std::uint64_t request, Milliseconds now) const {
  const std::scoped_lock lock(mutex_);
  const Table::Entry* known = table_->find(request, now);
  return known == nullptr || known->departure.key != key ? Meeting{} : known->meeting;
}

void Rendezvous::remove(std::uint64_t request) {
  const std::scoped_lock lock(mutex_);
  if (Table::Entry* known = table_->find(request)) {
    table_->entries.remove(*known);
  }
}

std::size_t Rendezvous::size() const {
  const std::scoped_lock lock(mutex_);
  return table_->entries.size();
}

Crowding Rendezvous::crowding() const {
  const std::scoped_lock lock(mutex_);
  return table_->crowding;
}

}  // namespace trireme::handshake
