// SPDX-License-Identifier: Apache-2.0
#include "trireme/handshake/proved_flows.hpp"

#include "aged_table.hpp"

namespace trireme::handshake {

struct ProvedFlows::Table {
  struct Entry {
    FlowKey key;
    Milliseconds since{};
    policy::Number local = 0;
    policy::Number remote = 0;
    std::uint64_t socket = 0;
  };
  Table(std::size_t capacity, std::uint64_t seed) : entries(capacity, seed, nullptr) {}

  AgedTable<Entry, 1> entries;
  Crowding crowding;
};

ProvedFlows::ProvedFlows(std::size_t capacity, std::uint64_t seed)
    : table_(std::make_unique<Table>(capacity, seed)) {}
ProvedFlows::~ProvedFlows() = default;

void ProvedFlows::enter(const ProvedFlow& flow, Milliseconds now) {
  const std::scoped_lock lock(mutex_);
  auto& entries = table_->entries;
  if (Table::Entry* known = entries.find(flow.key)) {
    entries.remove(*known);
  }
  if (Table::Entry* surplus = entries.surplus()) {
    table_->crowding.note(entries.shares().largest(), now);
    entries.remove(*surplus);
  }
  // The flow counts in the share of the side that began it.
  const Owner owner = flow.key.role == Role::client ? Owner::workload(flow.local)
                      : flow.client != 0            ? Owner::workload(flow.client)
                                                    : Owner::address(flow.key.remote);
  Table::Entry& made = entries.make(flow.key, owner, 0, now);
  made.local = flow.local;
  made.remote = flow.remote;
}

std::optional<ProvedFlow> ProvedFlows::find(const FlowKey& key) const {
  const std::scoped_lock lock(mutex_);
  const Table::Entry* known = table_->entries.find(key);
  return known == nullptr
             ? std::nullopt
             : std::optional<ProvedFlow>({key, known->local, known->remote, known->socket});
}

void ProvedFlows::remove(const FlowKey& key, Milliseconds before) {
  const std::scoped_lock lock(mutex_);
  Table::Entry* known = table_->entries.find(key);
  if (known != nullptr && known->since < before) {
    table_->entries.remove(*known);
  }
}

void ProvedFlows::forget_point(PointId point) {
  const std::scoped_lock lock(mutex_);
  table_->entries.each_of_point(point,
                                [this](Table::Entry& gone) { table_->entries.remove(gone); });
}

std::vector<ProvedFlow> ProvedFlows::entered_before(Milliseconds time) const {
  std::vector<ProvedFlow> flows;
  const std::scoped_lock lock(mutex_);
  flows.reserve(table_->entries.size());
  table_->entries.each(0, [&](const Table::Entry& entry) {
    if (entry.since < time) {
      flows.push_back({entry.key, entry.local, entry.remote, entry.socket});
    }
    return entry.since < time;
  });
  return flows;
}

void ProvedFlows::touch(const FlowKey& key, std::uint64_t socket, Milliseconds now) {
  const std::scoped_lock lock(mutex_);
  if (Table::Entry* known = table_->entries.find(key)) {
    known->socket = socket;
    table_->entries.move(*known, 0, now);
  }
}

std::vector<FlowKey> ProvedFlows::of_point(PointId point) const {
  std::vector<FlowKey> keys;
  const std::scoped_lock lock(mutex_);
  table_->entries.each(0, [&](const Table::Entry& entry) {
    if (entry.key.point == point) {
      keys.push_back(entry.key);
    }
    return true;
  });
  return keys;
}

std::size_t ProvedFlows::size() const {
  const std::scoped_lock lock(mutex_);
  return table_->entries.size();
}

Crowding ProvedFlows::crowding() const {
  const std::scoped_lock lock(mutex_);
  return table_->crowding;
}

}  // namespace trireme::handshake
