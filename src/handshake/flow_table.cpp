#include "flow_table.hpp"

#include <bit>
#include <cstring>

namespace trireme::handshake {
namespace {

// A SYN is repeated for two minutes (tcp_syn_retries 6), a SYN-ACK for one (tcp_synack_retries 5).
constexpr std::array<Milliseconds, 4> kAge = {Milliseconds{0}, Milliseconds{130'000}, Milliseconds{70'000}, Milliseconds{64'000}};

std::uint64_t mix(std::uint64_t value) {  // of MurmurHash3's finaliser
  value = (value ^ value >> 33U) * 0xff51afd7ed558ccdU;
  value = (value ^ value >> 33U) * 0xc4ceb9fe1a85ec53U;
  return value ^ value >> 33U;
}

std::uint64_t add(std::uint64_t hash, const policy::Address& address) {
  std::array<std::uint64_t, 2> halves{};
  std::memcpy(halves.data(), address.bytes.data(), sizeof halves);
  return mix(mix(hash ^ halves[0]) ^ halves[1]);
}

}  // namespace

FlowTable::FlowTable(std::size_t capacity, std::uint64_t seed, Budget& budget)
    : capacity_(capacity), buckets_(std::bit_ceil(capacity * 2), kNone), seed_(seed), budget_(budget) {}

std::uint64_t hash(const FlowKey& key, std::uint64_t seed) {
  const std::uint64_t rest = std::uint64_t{key.point} << 33U | std::uint64_t{key.local_port} << 17U | std::uint64_t{key.remote_port} << 1U |
                             static_cast<std::uint64_t>(key.role);
  return mix(add(add(seed, key.local), key.remote) ^ rest);
}

std::size_t FlowTable::bucket(const FlowKey& key) const {
  return hash(key, seed_) & (buckets_.size() - 1);
}

Handshake* FlowTable::find(const FlowKey& key, Milliseconds now) {
  for (Index slot = buckets_[bucket(key)]; slot != kNone; slot = slots_[slot].next_in_bucket) {
    if (slots_[slot].handshake.key != key) {
      continue;
    }
    if (!is_over(slots_[slot], now)) {
      return &slots_[slot].handshake;
    }
    remove(slot);
    break;
  }
  return nullptr;
}

Handshake& FlowTable::make(const FlowKey& key, Milliseconds now) {
  if (Handshake* known = find(key, now)) {
    remove(*known);
  }
  const Index slot = take_slot();
  Slot& taken = slots_[slot];
  taken.handshake = Handshake{};
  taken.handshake.key = key;
  taken.handshake.since = now;
  Index& head = buckets_[bucket(key)];
  taken.next_in_bucket = head;
  head = slot;
  append(slot, List::waiting);
  if (key.role == Role::server) {
    taken.half_open = true;
    budget_.opened(key.remote);
  }
  size_++;
  return taken.handshake;
}

void FlowTable::enter(Handshake& handshake, Phase phase, Milliseconds now) {
  handshake.phase = phase;
  handshake.since = now;
  const Index slot = index(handshake);
  if (phase != Phase::asked && phase != Phase::answered) {
    close(slots_[slot]);
  }
  unlink(slot);
  append(slot, list_of(handshake.key.role, phase));
}

void FlowTable::remove(Handshake& handshake) {
  remove(index(handshake));
}

void FlowTable::forget_point(PointId point) {
  for (Index slot = 0; slot < slots_.size(); slot++) {
    if (slots_[slot].list != List::free && slots_[slot].handshake.key.point == point) {
      remove(slot);
    }
  }
}

FlowTable::Index FlowTable::index(const Handshake& handshake) const {
  // The handshake is a slot's first member.
  return static_cast<Index>(reinterpret_cast<const Slot*>(&handshake) - slots_.data());
}

FlowTable::List FlowTable::list_of(Role role, Phase phase) {
  switch (phase) {
    case Phase::asked:
      return List::waiting;
    case Phase::answered:
      return List::answered;
    case Phase::complete:
    case Phase::open:
    case Phase::refused:
      break;
  }
  return role == Role::client || phase == Phase::complete ? List::settled : List::answered;
}

void FlowTable::append(Index slot, List list) {
  Ends& ends = lists_[static_cast<std::size_t>(list)];
  Slot& added = slots_[slot];
  added.list = list;
  added.newer = kNone;
  added.older = ends.newest;
  (ends.newest == kNone ? ends.oldest : slots_[ends.newest].newer) = slot;
  ends.newest = slot;
}

void FlowTable::unlink(Index slot) {
  Slot& gone = slots_[slot];
  Ends& ends = lists_[static_cast<std::size_t>(gone.list)];
  (gone.older == kNone ? ends.oldest : slots_[gone.older].newer) = gone.newer;
  (gone.newer == kNone ? ends.newest : slots_[gone.newer].older) = gone.older;
}

void FlowTable::close(Slot& slot) {
  if (slot.half_open) {
    slot.half_open = false;
    budget_.closed(slot.handshake.key.remote);
  }
}

bool FlowTable::is_over(const Slot& slot, Milliseconds now) const {
  return slot.handshake.since + kAge[static_cast<std::size_t>(slot.list)] <= now;
}

/// A few at a time, so that no packet pays for many.
void FlowTable::expire(Milliseconds now) {
  constexpr int kAtATime = 2;
  for (const List list : {List::waiting, List::answered, List::settled}) {
    const auto number = static_cast<std::size_t>(list);
    for (int count = 0; count < kAtATime; count++) {
      const Index oldest = lists_[number].oldest;
      if (oldest == kNone || !is_over(slots_[oldest], now)) {
        break;
      }
      remove(oldest);
    }
  }
}

FlowTable::Index FlowTable::take_slot() {
  Ends& free = lists_[static_cast<std::size_t>(List::free)];
  if (free.oldest == kNone && slots_.size() < capacity_) {
    slots_.reserve(capacity_);  // handshakes never move
    slots_.emplace_back();
    return static_cast<Index>(slots_.size() - 1);
  }
  if (free.oldest == kNone) {
    for (const List list : {List::settled, List::answered, List::waiting}) {
      if (const Index oldest = lists_[static_cast<std::size_t>(list)].oldest; oldest != kNone) {
        evicted_++;
        remove(oldest);
        break;
      }
    }
  }
  const Index slot = free.oldest;
  unlink(slot);
  return slot;
}

void FlowTable::remove(Index slot) {
  Slot& gone = slots_[slot];
  Index* link = &buckets_[bucket(gone.handshake.key)];
  while (*link != slot) {
    link = &slots_[*link].next_in_bucket;
  }
  *link = gone.next_in_bucket;
  unlink(slot);
  close(gone);
  gone.handshake.trust.reset();
  gone.handshake.local.reset();
  gone.handshake.remote.reset();
  gone.handshake.peer.reset();
  append(slot, List::free);
  size_--;
}

}  // namespace trireme::handshake
