// SPDX-License-Identifier: Apache-2.0
#include "tcp/table.hpp"

namespace trireme::handshake {
namespace {

// TCP repeats a SYN for up to 127 s (tcp_syn_retries 6), a SYN-ACK for up to 63 s
// (tcp_synack_retries 5).
constexpr std::array<Milliseconds, 3> kAges = {Milliseconds{130'000}, Milliseconds{70'000},
                                               Milliseconds{64'000}};
/// Longer than most round-trip times.
constexpr Milliseconds kProofPatience{250};

}  // namespace

HandshakeTable::HandshakeTable(std::size_t capacity, std::uint64_t seed, Budget& budget)
    : table_(capacity, seed, &budget) {}

bool HandshakeTable::is_over(const Handshake& handshake, Milliseconds now) const {
  return handshake.since + kAges.at(table_.list_of(handshake)) <= now;
}

Handshake* HandshakeTable::find(const FlowKey& key, Milliseconds now) {
  Handshake* found = table_.find(key);
  if (found != nullptr && is_over(*found, now)) {
    end(*found);
    return nullptr;
  }
  return found;
}

void HandshakeTable::end(Handshake& handshake) {
  if (on_over) {
    on_over(handshake);
  }
  table_.remove(handshake);
}

std::optional<Milliseconds> HandshakeTable::next_due() const {
  std::optional<Milliseconds> next;
  for (const List list : {kWaiting, kAnswered}) {
    if (const Handshake* oldest = table_.oldest(list)) {
      const Milliseconds due = oldest->since + kAges.at(list);
      next = next ? std::min(*next, due) : due;
    }
  }
  return next;
}

bool HandshakeTable::may_have_evicted(Milliseconds now) const {
  return crowding_.given_up > 0 && now < crowding_.last + kAges.front();
}

bool HandshakeTable::awaits_proof(Milliseconds now) const {
  const auto since = now - kProofPatience;
  return table_.any_since(kAnswered, since, [](const Handshake& handshake) {
    return handshake.phase == Phase::answered;
  }) || table_.any_since(kWaiting, since, [](const Handshake& handshake) {
    return handshake.is_near && handshake.key.role == Role::client;
  });
}

Handshake& HandshakeTable::make(const FlowKey& key, const Owner& owner, Milliseconds now) {
  if (Handshake* known = table_.find(key)) {
    table_.remove(*known);
  }
  if (Handshake* surplus = table_.surplus()) {
    crowding_.note(table_.shares().largest(), now);
    table_.remove(*surplus);
  }
  return table_.make(key, owner, kWaiting, now);
}

HandshakeTable::List HandshakeTable::list_of(Role role, Phase phase) {
  switch (phase) {
    case Phase::asked:
      return kWaiting;
    case Phase::answered:
      return kAnswered;
    case Phase::complete:
    case Phase::open:
    case Phase::refused:
      break;
  }
  return role == Role::client || phase == Phase::complete ? kFinished : kAnswered;
}

void HandshakeTable::enter(Handshake& handshake, Phase phase, Milliseconds now) {
  handshake.phase = phase;
  if (phase != Phase::asked && phase != Phase::answered) {
    table_.close(handshake);
  }
  table_.move(handshake, list_of(handshake.key.role, phase), now);
}

void HandshakeTable::remove(Handshake& handshake) {
  table_.remove(handshake);
}

void HandshakeTable::forget_point(PointId point) {
  table_.each_of_point(point, [this](Handshake& gone) { table_.remove(gone); });
}

/// Removes only a few per call, because it runs for each packet.
bool HandshakeTable::expire(Milliseconds now) {
  constexpr int kAtATime = 2;
  bool is_more = false;
  for (const List list : {kWaiting, kAnswered, kFinished}) {
    for (int count = 0; count < kAtATime; count++) {
      Handshake* oldest = table_.oldest(list);
      if (oldest == nullptr || !is_over(*oldest, now)) {
        break;
      }
      end(*oldest);
      is_more = is_more || count + 1 == kAtATime;
    }
  }
  return is_more;
}

}  // namespace trireme::handshake
