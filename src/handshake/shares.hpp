// SPDX-License-Identifier: Apache-2.0
// Who holds how much of something bounded: each owner's entries in the order of their age, and at
// any time the owner that holds most, whose entries go first when there is no room.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "trireme/handshake/owner.hpp"

namespace trireme::handshake {

/// Entries are named by an index that the user gives out, below `capacity`. Nothing is allocated
/// beyond that; every call takes a bounded time. Owners are thrown together by a seeded hash, 2,048
/// of each kind. Local workloads and remote hosts are told apart: whichever kind holds more gives
/// up entries, so that made-up addresses never displace a local workload's while those are less
/// than half.
class Shares {
 public:
  using Index = std::uint32_t;
  static constexpr Index kNone = ~Index{0};
  /// Of one owner's entries those of the lowest rank go first, and of these the oldest.
  static constexpr std::size_t kRanks = 3;

  Shares(std::size_t capacity, std::uint64_t seed);

  void add(Index entry, const Owner& owner, std::size_t rank, std::uint32_t weight);
  /// It becomes the newest of that rank.
  void move(Index entry, std::size_t rank);
  void grow(Index entry, std::uint32_t weight);
  void remove(Index entry);

  /// The entry to be given up for another; kNone when there is none.
  [[nodiscard]] Index victim() const;
  /// Whoever holds the victim, and how much.
  [[nodiscard]] Holder largest() const;
  /// Whether an entry of this owner is the next victim.
  [[nodiscard]] bool is_largest(const Owner& owner) const;
  [[nodiscard]] std::uint64_t total() const { return totals_[0] + totals_[1]; }
  [[nodiscard]] std::uint32_t weight(Index entry) const { return links_[entry].weight; }
  [[nodiscard]] bool contains(Index entry) const {
    return entry < links_.size() && links_[entry].slot != kNone;
  }

 private:
  static constexpr Index kSlots = 2048;  // of each kind, a power of two
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
    Owner owner;  // who added an entry last
    std::uint32_t weight = 0;
    std::array<Ends, kRanks> entries{};
  };

  [[nodiscard]] Index slot_of(const Owner& owner) const;
  [[nodiscard]] Index largest_slot() const;
  void weigh(Index slot, std::int64_t change);
  void append(Index entry, std::size_t rank);
  void unlink(Index entry);

  std::vector<Link> links_;  // grows to the capacity and stays
  std::size_t capacity_;
  std::vector<Slot> slots_;
  /// A tournament: each node holds the heavier of its two, leaves are the slots. Node 2 is the
  /// heaviest local owner, node 3 the heaviest remote one.
  std::vector<Index> winners_;
  std::array<std::uint64_t, 2> totals_{};
  std::uint64_t seed_;
};

}  // namespace trireme::handshake
