// SPDX-License-Identifier: Apache-2.0
#include "tcp/connections.hpp"

#include <algorithm>

namespace trireme::handshake {

using wire::TcpFlag;

Connections::Connections(std::size_t capacity, std::uint64_t seed, const Surroundings& around)
    : Carrier(kTcp, around), table_(capacity, seed, around.budget), early_(seed) {
  table_.on_over = [this](const Handshake& handshake) { report_death(handshake); };
}

/// Entry point for each TCP segment that the ruleset queues.
void Connections::handle(const PacketFacts& facts, const wire::Segment& segment, const Now& now) {
  table_.expire(now.monotonic);
  const Packet packet{{facts, now, segment.ends()}, segment};
  const unsigned flags = segment.flags() & (TcpFlag::kSyn | TcpFlag::kAck);
  if (flags == TcpFlag::kSyn) {
    return facts.outgoing ? begin_as_client(packet) : take_hello(packet);
  }
  if (flags == (TcpFlag::kSyn | TcpFlag::kAck)) {
    return facts.outgoing ? reply(packet) : take_reply(packet);
  }
  return facts.outgoing ? segment_out(packet) : segment_in(packet);
}

void Connections::tick(const Now& now) {
  constexpr int kMost = 64;  // rounds, because packets wait meanwhile
  for (int round = 0; round < kMost && table_.expire(now.monotonic); round++) {
  }
  early_.tick(around_.actions, now.monotonic);
}

std::optional<Milliseconds> Connections::next_due() const {
  const auto early = early_.next_due();
  const auto death = table_.next_due();
  return early && death ? std::min(*early, *death) : early ? early : death;
}

void Connections::refuse(const Packet& packet, Reason reason, Event event) {
  rulings_.report_refused(std::move(event), reason);
  turn_away(packet);
}

void Connections::refuse_unknown(const Packet& packet, Role role) {
  if (table_.may_have_evicted(packet.now.monotonic)) {
    return drop(packet, Reason::crowded);
  }
  refuse(packet, Reason::unknown_handshake, event(packet, role, nullptr));
}

void Connections::turn_away(const Packet& packet) {
  // A token must not reach an application. A reset must acknowledge only what the sender's TCP has
  // sent, which is the SYN without the token.
  const bool has_token =
      packet.segment.payload_size() > 0 && (packet.segment.flags() & TcpFlag::kSyn) != 0;
  const abi::Ruling ruling = rulings_.audits() ? abi::Ruling::audit : abi::Ruling::refuse;
  if (!has_token) {
    return accept(packet, ruling);
  }
  return wire::strip(packet.segment, changed_) ? accept_changed(packet, ruling)
                                               : drop(packet, Reason::malformed_packet);
}

void Connections::rejudge(const Packet& packet, Handshake& handshake) {
  const Judgement judgement = rulings_.of_proof(handshake, packet.now);
  if (judgement.reason == Reason::busy) {
    return drop(packet, Reason::busy);  // TCP repeats it
  }
  if (judgement.reason == Reason::none) {
    return accept(packet, ruling_of(judgement.decision), handshake.remote->number);
  }
  rulings_.report_refused(handshake, judgement);
  if (!rulings_.audits()) {
    around_.proved.connections.remove(handshake.key);
  }
  table_.remove(handshake);
  turn_away(packet);
}

void Connections::rejudge_open(const Packet& packet, Handshake& handshake) {
  if (handshake.local == nullptr) {
    return accept(packet, abi::Ruling::pass);
  }
  if (const auto ruling = rulings_.of_open(handshake)) {
    return accept(packet, *ruling);
  }
  rulings_.report_refused(handshake, {.reason = Reason::no_proof, .decision = {}});
  table_.remove(handshake);
  turn_away(packet);
}

}  // namespace trireme::handshake
