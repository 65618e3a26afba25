// SPDX-License-Identifier: Apache-2.0
#include "tcp/early_data.hpp"

namespace trireme::handshake {

EarlyData::EarlyData(std::uint64_t seed) : entries_(kEntries), all_(kEntries, seed) {
  free_.reserve(kEntries);
  for (std::uint32_t i = kEntries; i-- > 0;) {
    free_.push_back(i);
  }
}

EarlyData::Entry* EarlyData::find(const Handshake& handshake) {
  Entry& entry = entries_[handshake.early % kEntries];
  return handshake.early != 0 && entry.number == handshake.early ? &entry : nullptr;
}

void EarlyData::free(Entry& entry) {
  all_.forget(index(entry), entry.held);
  entry.number = 0;
  free_.push_back(index(entry));
}

EarlyData::Result EarlyData::hold(Actions& actions, Handshake& handshake, std::uint32_t packet,
                                  const wire::Segment& segment, const OwnSegment& question,
                                  Milliseconds now) {
  const std::size_t size = segment.header_size() + segment.payload_size();
  const Owner owner = Owner::address(handshake.key.remote);
  const auto give_up = [&](std::uint32_t entry, const Holder& largest) {
    crowding_.note(largest, now);
    drop(actions, entries_[entry]);
  };
  if (Entry* known = find(handshake)) {
    if (static_cast<std::int32_t>(segment.sequence() - known->last_sequence) <= 0) {
      return Result::repeats;
    }
    if (!all_.add(index(*known), owner, known->held, packet, size, give_up)) {
      return Result::no_room;
    }
    known->last_sequence = segment.sequence();
    return Result::waits;
  }
  const bool is_first = free_.size() == kEntries;
  const std::uint32_t taken = free_.back();
  free_.pop_back();
  Held held;
  if (!all_.add(taken, owner, held, packet, size, give_up)) {
    free_.push_back(taken);
    return Result::no_room;
  }
  if (is_first) {
    looked_ = now;
  }
  handshake.early = ++named_ * kEntries + taken;
  entries_[taken] = {handshake.early, now, 0, segment.sequence(), held, question};
  return Result::begins;
}

const Held& EarlyData::take(Handshake& handshake) {
  taken_ = {};
  if (Entry* known = find(handshake)) {
    taken_ = known->held;
    free(*known);
  }
  return taken_;
}

std::optional<Milliseconds> EarlyData::next_due() const {
  return free_.size() < kEntries ? std::optional(looked_ + kStep) : std::nullopt;
}

void EarlyData::tick(Actions& actions, Milliseconds now) {
  if (free_.size() == kEntries || looked_ + kStep > now) {
    return;
  }
  for (Entry& entry : entries_) {
    if (!actions.has_room()) {
      return;  // the rest is due in the next call; what was done is not due again
    }
    if (entry.number == 0) {
      continue;
    }
    if (entry.began + kWait <= now) {
      drop(actions, entry);
    } else if (entry.asked < kRepeat.size() && entry.began + kRepeat.at(entry.asked) <= now) {
      entry.asked++;
      actions.add(entry.question);
    }
  }
  looked_ = now;
}

void EarlyData::drop(Actions& actions, Entry& entry) {
  for (const std::uint32_t id : entry.held.all()) {
    actions.add(PacketVerdict{.point = entry.question.point, .id = id, .drop = true});
  }
  free(entry);
}

}  // namespace trireme::handshake
