// SPDX-License-Identifier: Apache-2.0
// A bounded table of handshakes by flow. Each handshake is on one of several lists, and all of a
// list have the same maximum age. So the oldest of each list expires first, and no handshake needs
// a timer.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <vector>

#include "budget.hpp"
#include "shares.hpp"
#include "trireme/handshake/flow_key.hpp"

namespace trireme::handshake {

/// `Entry` has a `key` and `since`, the time at which it was put on its list. Entries never move in
/// memory. Half-open entries of servers count against the client's share in the budget, if there is
/// one. Each entry has an owner; when the table is full, the largest owner loses an entry, from the
/// last list first.
template <typename Entry, std::size_t kLists>
class AgedTable {
 public:
  /// `budget` may be null.
  AgedTable(std::size_t capacity, std::uint64_t seed, Budget* budget)
      : capacity_(capacity),
        buckets_(std::bit_ceil(capacity * 2), kNone),
        seed_(seed),
        budget_(budget),
        shares_(capacity, seed) {}

  [[nodiscard]] Entry* find(const FlowKey& key) {
    for (Index slot = buckets_[bucket(key)]; slot != kNone; slot = slots_[slot].next_in_bucket) {
      if (slots_[slot].entry.key == key) {
        return &slots_[slot].entry;
      }
    }
    return nullptr;
  }
  /// Adds a half-open entry with only `key` and `since` set. There must be no entry with this key,
  /// and the table must not be full.
  Entry& make(const FlowKey& key, const Owner& owner, std::size_t list, Milliseconds now) {
    const Index slot = take_slot();
    Slot& taken = slots_[slot];
    taken.entry = Entry{};
    taken.entry.key = key;
    taken.entry.since = now;
    Index& head = buckets_[bucket(key)];
    taken.next_in_bucket = head;
    head = slot;
    append(slot, list);
    if (key.role == Role::server && budget_ != nullptr) {
      taken.half_open = true;
      budget_->opened(key.remote);
    }
    shares_.add(slot, owner, rank(list), 1);
    size_++;
    return taken.entry;
  }
  void move(Entry& entry, std::size_t list, Milliseconds now) {
    entry.since = now;
    const Index slot = index(entry);
    unlink(slot);
    append(slot, list);
    shares_.move(slot, rank(list));
  }
  /// Marks the entry as no longer half-open.
  void close(Entry& entry) {
    Slot& slot = slots_[index(entry)];
    if (slot.half_open) {
      slot.half_open = false;
      budget_->closed(entry.key.remote);
    }
  }
  void remove(Entry& entry) {
    close(entry);
    const Index slot = index(entry);
    Index* link = &buckets_[bucket(entry.key)];
    while (*link != slot) {
      link = &slots_[*link].next_in_bucket;
    }
    *link = slots_[slot].next_in_bucket;
    unlink(slot);
    shares_.remove(slot);
    entry = Entry{};  // releases its shared pointers
    append(slot, kFree);
    size_--;
  }

  /// The entry that is on this list for the longest time; null if the list is empty.
  [[nodiscard]] Entry* oldest(std::size_t list) {
    const Index slot = lists_.at(list).oldest;
    return slot == kNone ? nullptr : &slots_[slot].entry;
  }
  [[nodiscard]] const Entry* oldest(std::size_t list) const {
    const Index slot = lists_.at(list).oldest;
    return slot == kNone ? nullptr : &slots_[slot].entry;
  }
  /// True if `which` is true for any entry that was put on this list after `since`.
  template <typename Which>
  [[nodiscard]] bool any_since(std::size_t list, Milliseconds since, const Which& which) const {
    for (Index slot = lists_.at(list).newest; slot != kNone && slots_[slot].entry.since > since;
         slot = slots_[slot].older) {
      if (which(slots_[slot].entry)) {
        return true;
      }
    }
    return false;
  }
  /// Calls `what` with the entries of this list, oldest first, until it returns false.
  template <typename What>
  void each(std::size_t list, const What& what) const {
    for (Index slot = lists_.at(list).oldest; slot != kNone && what(slots_[slot].entry);
         slot = slots_[slot].newer) {
    }
  }
  /// The entry to evict for a new one if the table is full; otherwise null.
  [[nodiscard]] Entry* surplus() {
    const Index slot = is_full() ? shares_.victim() : kNone;
    return slot == kNone ? nullptr : &slots_[slot].entry;
  }
  [[nodiscard]] Entry& at(std::uint32_t slot) { return slots_[slot].entry; }
  [[nodiscard]] std::uint32_t index(const Entry& entry) const {
    return static_cast<Index>(reinterpret_cast<const Slot*>(&entry) - slots_.data());
  }
  [[nodiscard]] const Shares& shares() const { return shares_; }
  [[nodiscard]] std::size_t list_of(const Entry& entry) const { return slots_[index(entry)].list; }
  /// Calls `what` with each entry of the point. `what` may remove the entry.
  template <typename What>
  void each_of_point(PointId point, const What& what) {
    for (Slot& slot : slots_) {
      if (slot.list != kFree && slot.entry.key.point == point) {
        what(slot.entry);
      }
    }
  }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool is_full() const { return size_ >= capacity_; }

 private:
  using Index = std::uint32_t;
  static constexpr Index kNone = ~Index{0};
  static constexpr std::size_t kFree = kLists;
  struct Slot {
    Entry entry;  // the first member: see index()
    Index next_in_bucket = kNone;
    Index older = kNone;
    Index newer = kNone;
    std::size_t list = kFree;
    bool half_open = false;  // counted in the budget
  };
  struct Ends {
    Index oldest = kNone;
    Index newest = kNone;
  };

  [[nodiscard]] std::size_t bucket(const FlowKey& key) const {
    return hash(key, seed_) & (buckets_.size() - 1);
  }
  /// Entries of the last lists are evicted first.
  [[nodiscard]] static std::size_t rank(std::size_t list) {
    return std::min(kLists - 1 - list, Shares::kRanks - 1);
  }
  [[nodiscard]] Index take_slot() {
    const Index slot = lists_[kFree].oldest;
    if (slot != kNone) {
      unlink(slot);
      return slot;
    }
    slots_.reserve(capacity_);
    slots_.emplace_back();
    return static_cast<Index>(slots_.size() - 1);
  }
  void append(Index slot, std::size_t list) {
    Ends& ends = lists_.at(list);
    Slot& added = slots_[slot];
    added.list = list;
    added.newer = kNone;
    added.older = ends.newest;
    (ends.newest == kNone ? ends.oldest : slots_[ends.newest].newer) = slot;
    ends.newest = slot;
  }
  void unlink(Index slot) {
    const Slot& gone = slots_[slot];
    Ends& ends = lists_.at(gone.list);
    (gone.older == kNone ? ends.oldest : slots_[gone.older].newer) = gone.newer;
    (gone.newer == kNone ? ends.newest : slots_[gone.newer].older) = gone.older;
  }

  std::vector<Slot> slots_;  // grows up to the capacity, never shrinks
  std::size_t capacity_;
  std::vector<Index> buckets_;
  std::array<Ends, kLists + 1> lists_;
  std::uint64_t seed_;
  Budget* budget_;
  Shares shares_;
  std::size_t size_ = 0;
};

}  // namespace trireme::handshake
