#include "datagram_table.hpp"

#include <bit>

namespace trireme::handshake {

DatagramTable::DatagramTable(std::size_t capacity, std::uint64_t seed, Budget& budget)
    : capacity_(capacity), buckets_(std::bit_ceil(capacity * 2), kNone), seed_(seed), budget_(budget) {}

Milliseconds DatagramTable::age(std::size_t list) {
  return list < kRepeat.size() ? kRepeat.at(list) : list == kAnsweredList ? kAnswered : kSettled;
}

std::size_t DatagramTable::bucket(const FlowKey& key) const {
  return hash(key, seed_) & (buckets_.size() - 1);
}

DatagramExchange* DatagramTable::find(const FlowKey& key) {
  for (Index slot = buckets_[bucket(key)]; slot != kNone; slot = slots_[slot].next_in_bucket) {
    if (slots_[slot].exchange.key == key) {
      return &slots_[slot].exchange;
    }
  }
  return nullptr;
}

DatagramExchange& DatagramTable::make(const FlowKey& key, Milliseconds now) {
  Ends& free = lists_[kFreeList];
  Index slot = free.oldest;
  if (slot == kNone) {
    slots_.reserve(capacity_);  // exchanges never move
    slots_.emplace_back();
    slot = static_cast<Index>(slots_.size() - 1);
  } else {
    unlink(slot);
  }
  Slot& taken = slots_[slot];
  taken.exchange = DatagramExchange{};
  taken.exchange.key = key;
  taken.exchange.since = now;
  taken.exchange.began = now;
  Index& head = buckets_[bucket(key)];
  taken.next_in_bucket = head;
  head = slot;
  append(slot, kSettledList);
  if (key.role == Role::server) {
    taken.half_open = true;
    budget_.opened(key.remote);
  }
  size_++;
  return taken.exchange;
}

void DatagramTable::repeat(DatagramExchange& exchange, Milliseconds now) {
  move(exchange, exchange.attempts, now);
}

void DatagramTable::await_proof(DatagramExchange& exchange, Milliseconds now) {
  exchange.stage = Stage::answered;
  move(exchange, kAnsweredList, now);
}

void DatagramTable::settle(DatagramExchange& exchange, Stage stage, Milliseconds now) {
  exchange.stage = stage;
  close(slots_[index(exchange)]);
  move(exchange, kSettledList, now);
}

void DatagramTable::remove(DatagramExchange& exchange) {
  const Index slot = index(exchange);
  Slot& gone = slots_[slot];
  Index* link = &buckets_[bucket(gone.exchange.key)];
  while (*link != slot) {
    link = &slots_[*link].next_in_bucket;
  }
  *link = gone.next_in_bucket;
  unlink(slot);
  close(gone);
  gone.exchange = DatagramExchange{};  // lets go of what it shares
  append(slot, kFreeList);
  size_--;
}

DatagramExchange* DatagramTable::due(Milliseconds now) {
  for (std::size_t list = 0; list < kFreeList; list++) {
    const Index oldest = lists_.at(list).oldest;
    if (oldest != kNone && slots_[oldest].exchange.since + age(list) <= now) {
      return &slots_[oldest].exchange;
    }
  }
  return nullptr;
}

std::optional<Milliseconds> DatagramTable::next_due() const {
  std::optional<Milliseconds> next;
  for (std::size_t list = 0; list < kFreeList; list++) {
    if (const Index oldest = lists_.at(list).oldest; oldest != kNone) {
      const Milliseconds when = slots_[oldest].exchange.since + age(list);
      next = next ? std::min(*next, when) : when;
    }
  }
  return next;
}

DatagramExchange* DatagramTable::surplus() {
  if (size_ < capacity_) {
    return nullptr;
  }
  for (const std::size_t list : {kSettledList, kAnsweredList}) {
    if (const Index oldest = lists_.at(list).oldest; oldest != kNone) {
      return &slots_[oldest].exchange;
    }
  }
  for (std::size_t list = kRepeat.size(); list-- > 0;) {
    if (const Index oldest = lists_.at(list).oldest; oldest != kNone) {
      return &slots_[oldest].exchange;
    }
  }
  return nullptr;
}

DatagramExchange* DatagramTable::of_point(PointId point) {
  for (Slot& slot : slots_) {
    if (slot.list != kFreeList && slot.exchange.key.point == point) {
      return &slot.exchange;
    }
  }
  return nullptr;
}

DatagramTable::Index DatagramTable::index(const DatagramExchange& exchange) const {
  // The exchange is a slot's first member.
  return static_cast<Index>(reinterpret_cast<const Slot*>(&exchange) - slots_.data());
}

void DatagramTable::move(DatagramExchange& exchange, std::size_t list, Milliseconds now) {
  exchange.since = now;
  const Index slot = index(exchange);
  unlink(slot);
  append(slot, list);
}

void DatagramTable::append(Index slot, std::size_t list) {
  Ends& ends = lists_.at(list);
  Slot& added = slots_[slot];
  added.list = list;
  added.newer = kNone;
  added.older = ends.newest;
  (ends.newest == kNone ? ends.oldest : slots_[ends.newest].newer) = slot;
  ends.newest = slot;
}

void DatagramTable::unlink(Index slot) {
  Slot& gone = slots_[slot];
  Ends& ends = lists_.at(gone.list);
  (gone.older == kNone ? ends.oldest : slots_[gone.older].newer) = gone.newer;
  (gone.newer == kNone ? ends.newest : slots_[gone.newer].older) = gone.older;
}

void DatagramTable::close(Slot& slot) {
  if (slot.half_open) {
    slot.half_open = false;
    budget_.closed(slot.exchange.key.remote);
  }
}

}  // namespace trireme::handshake
