// SPDX-License-Identifier: Apache-2.0
// Shares of a bounded resource: the entries of each owner in order of age, and the owner that holds
// most. Its entries are evicted first.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "trireme/handshake/owner.hpp"

namespace trireme::handshake {

/// The caller assigns each entry an index below `capacity`, which also bounds the memory. Every
/// call takes bounded time. A seeded hash maps owners to 2,048 slots for local workloads and 2,048
/// for remote hosts; owners in the same slot share. The kind that holds more loses entries. So
/// forged source addresses never evict an entry of a local workload while local workloads hold less
/// than half.
class Shares {
 public:
  using Index = std::uint32_t;
  static constexpr Index kNone = ~Index{0};
  /// Among the entries of one owner, the lowest rank is evicted first, and the oldest of that rank.
  static constexpr std::size_t kRanks = 3;

  Shares(std::size_t capacity, std::uint64_t seed);

  void add(Index entry, const Owner& owner, std::size_t rank, std::uint32_t weight);
  /// Makes the entry the newest of that rank.
  void move(Index entry, std::size_t rank);
  void grow(Index entry, std::uint32_t weight);
  void remove(Index entry);

  /// The entry to evict next; kNone if there are no entries.
  [[nodiscard]] Index victim() const;
  /// The owner of the next victim, and how much it holds.
  [[nodiscard]] Holder largest() const;
  /// True if the next victim is an entry of this owner.
  [[nodiscard]] bool is_largest(const Owner& owner) const;
  [[nodiscard]] std::uint64_t total() const { return totals_[0] + totals_[1]; }
  [[nodiscard]] std::uint32_t weight(Index entry) const { return links_[entry].weight; }
  [[nodiscard]] bool contains(Index entry) const {
    return entry < links_.size() && links_[entry].slot != kNone;
  }

 private:
  static constexpr Index kSlots = 2048;  // per kind; a power of two
  struct Link {
    Index older = kNone;
    Index newer = kNone;
    Index slot = kNone;
    std::uint32_t weight : 24 = 0;
    std::uint32_t rank : 8 = 0;
  };
  struct Ends {
    Index oldest = kNone;
    Index newest = kNone;
  };
  struct Slot {
    Owner owner;  // the owner that added an entry last
    std::uint32_t weight = 0;
    std::array<Ends, kRanks> entries{};
  };

  [[nodiscard]] Index slot_of(const Owner& owner) const;
  [[nodiscard]] Index largest_slot() const;
  void weigh(Index slot, std::int64_t change);
  void append(Index entry, std::size_t rank);
  void unlink(Index entry);

  std::vector<Link> links_;  // grows up to the capacity, never shrinks
  std::size_t capacity_;
  std::vector<Slot> slots_;
  /// Tournament tree over the slots: each inner node holds the heavier of its two children. Node 2
  /// is the heaviest slot of local owners, node 3 that of remote owners.
  std::vector<Index> winners_;
  std::array<std::uint64_t, 2> totals_{};
  std::uint64_t seed_;
};

}  // namespace trireme::handshake
