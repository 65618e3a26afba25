// SPDX-License-Identifier: Apache-2.0
#include "shares.hpp"

#include <cstring>

namespace trireme::handshake {

Owner Owner::workload(policy::Number number) {
  return {.kind = Kind::workload, .id = number};
}

/// The whole IPv4 address, or the first 64 bits of an IPv6 address.
Owner Owner::address(const policy::Address& address) {
  Owner owner{.kind = address.family == policy::Address::Family::v4 ? Kind::ipv4 : Kind::ipv6,
              .id = 0};
  std::memcpy(&owner.id, address.bytes.data(), owner.kind == Kind::ipv4 ? 4 : sizeof owner.id);
  return owner;
}

std::string Owner::address_text() const {
  policy::Address address;
  address.family = kind == Kind::ipv4 ? policy::Address::Family::v4 : policy::Address::Family::v6;
  std::memcpy(address.bytes.data(), &id, kind == Kind::ipv4 ? 4 : sizeof id);
  return address.text() + (kind == Kind::ipv4 ? "" : "/64");
}

Shares::Shares(std::size_t capacity, std::uint64_t seed)
    : capacity_(capacity),
      slots_(std::size_t{2} * kSlots),
      winners_(std::size_t{2} * kSlots),
      seed_(seed) {
  for (Index node = static_cast<Index>(winners_.size()) - 1; node > 0; node--) {
    const Index child = 2 * node;
    winners_[node] =
        child < winners_.size() ? winners_[child] : child - static_cast<Index>(winners_.size());
  }
}

Shares::Index Shares::slot_of(const Owner& owner) const {
  const std::uint64_t mixed =
      ((owner.id + static_cast<std::uint64_t>(owner.kind)) ^ seed_) * 0x9e3779b97f4a7c15U;
  return static_cast<Index>(mixed >> 32U) % kSlots + (owner.is_local() ? 0 : kSlots);
}

/// The children of node n are 2n and 2n + 1. Leaves are not stored: a child at or above the number
/// of inner nodes is the slot with that index minus the number of inner nodes.
void Shares::weigh(Index slot, std::int64_t change) {
  Slot& of = slots_[slot];
  of.weight = static_cast<std::uint32_t>(of.weight + change);
  auto& total = totals_[slot / kSlots];
  total = static_cast<std::uint64_t>(static_cast<std::int64_t>(total) + change);
  const auto inner = static_cast<Index>(winners_.size());
  for (Index node = (slot + inner) / 2; node > 1; node /= 2) {
    const Index child = 2 * node;
    const Index left = child < inner ? winners_[child] : child - inner;
    const Index right = child < inner ? winners_[child + 1] : child + 1 - inner;
    winners_[node] = slots_[right].weight > slots_[left].weight ? right : left;
  }
}

void Shares::append(Index entry, std::size_t rank) {
  Link& link = links_[entry];
  Ends& ends = slots_[link.slot].entries.at(rank);
  link.rank = static_cast<std::uint8_t>(rank);
  link.newer = kNone;
  link.older = ends.newest;
  (ends.newest == kNone ? ends.oldest : links_[ends.newest].newer) = entry;
  ends.newest = entry;
}

void Shares::unlink(Index entry) {
  const Link& link = links_[entry];
  Ends& ends = slots_[link.slot].entries.at(link.rank);
  (link.older == kNone ? ends.oldest : links_[link.older].newer) = link.newer;
  (link.newer == kNone ? ends.newest : links_[link.newer].older) = link.older;
}

void Shares::add(Index entry, const Owner& owner, std::size_t rank, std::uint32_t weight) {
  if (entry >= links_.size()) {
    links_.reserve(capacity_);
    links_.resize(entry + 1);
  }
  Link& link = links_[entry];
  link.slot = slot_of(owner);
  link.weight = weight & 0xffffffU;
  slots_[link.slot].owner = owner;
  append(entry, rank);
  weigh(link.slot, weight);
}

void Shares::move(Index entry, std::size_t rank) {
  unlink(entry);
  append(entry, rank);
}

void Shares::grow(Index entry, std::uint32_t weight) {
  Link& link = links_[entry];
  link.weight = (link.weight + weight) & 0xffffffU;
  weigh(link.slot, weight);
}

void Shares::remove(Index entry) {
  unlink(entry);
  Link& link = links_[entry];
  weigh(link.slot, -std::int64_t{link.weight});
  link = {};
}

Shares::Index Shares::largest_slot() const {
  return winners_[totals_[0] >= totals_[1] ? 2 : 3];
}

Shares::Index Shares::victim() const {
  for (const Ends& ends : slots_[largest_slot()].entries) {
    if (ends.oldest != kNone) {
      return ends.oldest;
    }
  }
  return kNone;
}

Holder Shares::largest() const {
  const Slot& slot = slots_[largest_slot()];
  return {slot.owner, slot.weight, total()};
}

bool Shares::is_largest(const Owner& owner) const {
  return total() > 0 && slot_of(owner) == largest_slot();
}

}  // namespace trireme::handshake
