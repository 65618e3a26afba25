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

bool EarlyData::hold(Handshake& handshake, std::uint32_t packet, const wire::Segment& segment, Milliseconds now) {
  const std::size_t size = segment.header_size() + segment.payload_size();
  Entry* known = find(handshake);
  if (known != nullptr) {
    const auto ahead = static_cast<std::int32_t>(segment.sequence() - known->last_sequence);
    if (ahead <= 0 || !all_.add(known->held, packet, size)) {
      return false;
    }
    known->last_sequence = segment.sequence();
    return true;
  }
  pass_empty();
  if (next_ - oldest_ >= kEntries) {
    return false;
  }
  Entry& entry = at(next_);
  entry = {handshake.key.point, now + kWait, segment.sequence(), {}};
  if (!all_.add(entry.held, packet, size)) {
    return false;
  }
  handshake.early = next_++;
  return true;
}

const Held& EarlyData::take(Handshake& handshake) {
  taken_ = {};
  if (Entry* known = find(handshake)) {
    taken_ = known->held;
    all_.forget(known->held);
  }
  return taken_;
}

std::optional<Milliseconds> EarlyData::next_due() {
  pass_empty();
  return oldest_ < next_ ? std::optional(at(oldest_).until) : std::nullopt;
}

std::optional<EarlyData::Overdue> EarlyData::overdue(Milliseconds now) {
  pass_empty();
  if (oldest_ == next_ || at(oldest_).until > now) {
    return std::nullopt;
  }
  Entry& entry = at(oldest_);
  const Overdue due{entry.point, entry.held};
  all_.forget(entry.held);
  return due;
}

}  // namespace trireme::handshake
