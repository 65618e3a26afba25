#include "trireme/handshake/rendezvous.hpp"

#include "aged_table.hpp"

namespace trireme::handshake {
namespace {

/// As long as TCP repeats a SYN (tcp_syn_retries 6).
constexpr Milliseconds kAge{130'000};

/// Ends are alike wherever they are seen.
FlowKey table_key(FlowKey key) {
  key.point = 0;
  key.role = Role::client;
  return key;
}

}  // namespace

struct Rendezvous::Table {
  struct Entry {
    FlowKey key;
    Milliseconds since{};
    PointId point = 0;
    Departure departure;
    Meeting meeting;
  };
  Table(std::size_t capacity, std::uint64_t seed) : entries(capacity, seed, nullptr) {}

  [[nodiscard]] Entry* find(const FlowKey& key, std::uint64_t request) {
    Entry* known = entries.find(table_key(key));
    return known != nullptr && known->departure.request == request ? known : nullptr;
  }
  [[nodiscard]] Entry* find(const FlowKey& key, std::uint64_t request, Milliseconds now) {
    Entry* known = find(key, request);
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
  const FlowKey key = table_key(departure.key);
  if (Table::Entry* known = entries.find(key)) {
    if (known->departure.request == departure.request) {
      entries.move(*known, 0, now);  // it is repeated; what was decided holds
      return;
    }
    entries.remove(*known);
  }
  if (Table::Entry* surplus = entries.surplus()) {
    table_->crowding.note(entries.shares().largest(), now);
    entries.remove(*surplus);
  }
  Table::Entry& made = entries.make(key, Owner::workload(departure.client->number), 0, now);
  made.point = departure.key.point;
  made.departure = departure;
}

std::optional<Departure> Rendezvous::arrive(const wire::Ends& left_with, std::uint64_t request,
                                            Milliseconds now) const {
  const FlowKey key{
      left_with.source, left_with.destination, left_with.source_port, left_with.destination_port, 0,
      Role::client};
  const std::scoped_lock lock(mutex_);
  const Table::Entry* known = table_->find(key, request, now);
  return known == nullptr ? std::nullopt : std::optional(known->departure);
}

void Rendezvous::decide(const Departure& departure, const Meeting& meeting) {
  const std::scoped_lock lock(mutex_);
  if (Table::Entry* known = table_->find(departure.key, departure.request)) {
    known->meeting = meeting;
  }
}

Meeting Rendezvous::meeting(const FlowKey& key, std::uint64_t request, Milliseconds now) const {
  const std::scoped_lock lock(mutex_);
  const Table::Entry* known = table_->find(key, request, now);
  return known == nullptr || known->point != key.point ? Meeting{} : known->meeting;
}

void Rendezvous::remove(const FlowKey& key, std::uint64_t request) {
  const std::scoped_lock lock(mutex_);
  if (Table::Entry* known = table_->find(key, request)) {
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
