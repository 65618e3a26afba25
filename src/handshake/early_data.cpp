#include "early_data.hpp"

namespace trireme::handshake {

EarlyData::EarlyData() : entries_(kEntries) {}

EarlyData::Entry* EarlyData::find(const Handshake& handshake) {
  const bool is_there = handshake.early >= oldest_ && handshake.early < next_;
  return is_there && at(handshake.early).held.count > 0 ? &at(handshake.early) : nullptr;
}

void EarlyData::pass_empty() {
  while (oldest_ < next_ && at(oldest_).held.count == 0) {
    oldest_++;
  }
}

EarlyData::Result EarlyData::hold(Handshake& handshake, std::uint32_t packet,
                                  const wire::Segment& segment, const OwnSegment& question,
                                  Milliseconds now) {
  const std::size_t size = segment.header_size() + segment.payload_size();
  if (Entry* known = find(handshake)) {
    if (static_cast<std::int32_t>(segment.sequence() - known->last_sequence) <= 0) {
      return Result::repeats;
    }
    if (!all_.add(known->held, packet, size)) {
      return Result::no_room;
    }
    known->last_sequence = segment.sequence();
    return Result::waits;
  }
  pass_empty();
  if (next_ - oldest_ >= kEntries) {
    return Result::no_room;
  }
  Held held;
  if (!all_.add(held, packet, size)) {
    return Result::no_room;
  }
  if (oldest_ == next_) {
    looked_ = now;
  }
  at(next_) = {handshake.key.point, now, 0, segment.sequence(), held, question};
  handshake.early = next_++;
  return Result::begins;
}

const Held& EarlyData::take(Handshake& handshake) {
  taken_ = {};
  if (Entry* known = find(handshake)) {
    taken_ = known->held;
    all_.forget(known->held);
    pass_empty();
  }
  return taken_;
}

std::optional<Milliseconds> EarlyData::next_due() const {
  return oldest_ < next_ ? std::optional(looked_ + kStep) : std::nullopt;
}

void EarlyData::tick(Port& port, Milliseconds now) {
  if (oldest_ == next_ || looked_ + kStep > now) {
    return;
  }
  looked_ = now;
  for (std::uint64_t number = oldest_; number < next_; number++) {
    Entry& entry = at(number);
    if (entry.held.count == 0) {
      continue;
    }
    if (entry.began + kWait <= now) {
      drop(port, entry);
    } else if (entry.asked < kRepeat.size() && entry.began + kRepeat.at(entry.asked) <= now) {
      entry.asked++;
      port.send(entry.point, entry.question);
    }
  }
  pass_empty();
}

void EarlyData::drop(Port& port, Entry& entry) {
  for (std::size_t i = 0; i < entry.held.count; i++) {
    port.drop(entry.point, entry.held.packets.at(i));
  }
  all_.forget(entry.held);
}

}  // namespace trireme::handshake
