// SPDX-License-Identifier: Apache-2.0
#include "tcp/table.hpp"

namespace trireme::handshake {
namespace {

// A SYN is repeated for two minutes (tcp_syn_retries 6), a SYN-ACK for one (tcp_synack_retries 5).
constexpr std::array<Milliseconds, 3> kAges = {Milliseconds{130'000}, Milliseconds{70'000},
                                               Milliseconds{64'000}};
/// More than most round trips take.
constexpr Milliseconds kProofPatience{250};

}  // namespace

FlowTable::FlowTable(std::size_t capacity, std::uint64_t seed, Budget& budget)
    : table_(capacity, seed, &budget) {}

bool FlowTable::is_over(const Handshake& handshake, Milliseconds now) const {
  return handshake.since + kAges.at(table_.list_of(handshake)) <= now;
}

Handshake* FlowTable::find(const FlowKey& key, Milliseconds now) {
  Handshake* found = table_.find(key);
  if (found != nullptr && is_over(*found, now)) {
    end(*found);
    return nullptr;
  }
  return found;
}

void FlowTable::end(Handshake& handshake) {
  if (on_over) {
    on_over(handshake);
  }
  table_.remove(handshake);
}

std::optional<Milliseconds> FlowTable::next_due() const {
  std::optional<Milliseconds> next;
  for (const List list : {kWaiting, kAnswered}) {
    if (const Handshake* oldest = table_.oldest(list)) {
      const Milliseconds due = oldest->since + kAges.at(list);
      next = next ? std::min(*next, due) : due;
    }
  }
  return next;
}

bool FlowTable::may_have_evicted(Milliseconds now) const {
  return crowding_.given_up > 0 && now < crowding_.last + kAges.front();
}

bool FlowTable::awaits_proof(Milliseconds now) const {
  const auto since = now - kProofPatience;
  return table_.any_since(kAnswered, since, [](const Handshake& handshake) {
    return handshake.phase == Phase::answered;
  }) || table_.any_since(kWaiting, since, [](const Handshake& handshake) {
    return handshake.is_near && handshake.key.role == Role::client;
  });
}

Handshake& FlowTable::make(const FlowKey& key, const Owner& owner, Milliseconds now) {
  if (Handshake* known = table_.find(key)) {
    table_.remove(*known);
  }
  if (Handshake* surplus = table_.surplus()) {
    crowding_.note(table_.shares().largest(), now);
    table_.remove(*surplus);
  }
  return table_.make(key, owner, kWaiting, now);
}

FlowTable::List FlowTable::list_of(Role role, Phase phase) {
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
  return role == Role::client || phase == Phase::complete ? kSettled : kAnswered;
}

void FlowTable::enter(Handshake& handshake, Phase phase, Milliseconds now) {
  handshake.phase = phase;
  if (phase != Phase::asked && phase != Phase::answered) {
    table_.close(handshake);
  }
  table_.move(handshake, list_of(handshake.key.role, phase), now);
}

void FlowTable::remove(Handshake& handshake) {
  table_.remove(handshake);
}

void FlowTable::forget_point(PointId point) {
  table_.each_of_point(point, [this](Handshake& gone) { table_.remove(gone); });
}

/// A few at a time, so that no packet pays for many.
bool FlowTable::expire(Milliseconds now) {
  constexpr int kAtATime = 2;
  bool is_more = false;
  for (const List list : {kWaiting, kAnswered, kSettled}) {
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
