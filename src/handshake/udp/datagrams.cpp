// SPDX-License-Identifier: Apache-2.0
#include "udp/datagrams.hpp"

#include <algorithm>

namespace trireme::handshake {
namespace {

// From PROOF on: datagrams that come together go through the queue together, in their order. The
// clock's step is 4 ms.
constexpr Milliseconds kTogether{4};
/// Nor does one that is followed by others, for this long: a thread that is always behind would
/// have all of a flow for ever.
constexpr Milliseconds kLongest{100};

}  // namespace

Datagrams::Datagrams(std::size_t capacity, std::uint64_t seed, const Surroundings& surroundings)
    : Carrier(kUdp, surroundings),
      table_(capacity, seed, surroundings.budget),
      nobody_(std::make_shared<const LocalIdentity>(0, policy::LabelSet{})),
      host_(std::make_shared<const LocalIdentity>(kHost, policy::LabelSet{})),
      held_(capacity, seed) {}

/// Whoever has begun the flow.
Owner Datagrams::owner(const Packet& packet, Role role) {
  return role == Role::client
             ? Owner::workload(packet.number())
             : Owner::address(packet.facts.outgoing ? packet.ends.destination : packet.ends.source);
}

/// Every UDP packet of the token path begins here.
void Datagrams::handle(const PacketFacts& facts, const wire::Datagram& datagram, const Now& now) {
  const Packet packet{{facts, now, datagram.ends()}, datagram};
  const bool is_control = wire::is_control(datagram.payload());
  if (facts.outgoing) {
    return is_control ? drop(packet, Reason::malformed_token)
                      : leave(packet);  // ours do not come here
  }
  return is_control ? take_control(packet) : arrive(packet);
}

void Datagrams::leave(const Packet& packet) {
  if (packet.is(kTakenOver)) {
    return take_over(packet);
  }
  if (!packet.is(kAnswers)) {
    return leave_as_client(packet);
  }
  DatagramExchange* exchange = table_.find(packet.key(Role::server));
  if (exchange == nullptr || exchange->stage != Stage::complete || exchange->is_closing) {
    return refuse_unknown(packet, Role::server, exchange);
  }
  return rejudge(packet, *exchange);
}

void Datagrams::arrive(const Packet& packet) {
  if (packet.is(kTakenOver)) {
    return take_over(packet);
  }
  for (const Role role : {Role::server, Role::client}) {
    DatagramExchange* exchange = table_.find(packet.key(role));
    if (exchange == nullptr || exchange->is_closing) {
      continue;
    }
    switch (exchange->stage) {
      case Stage::answered:
        return hold(packet, *exchange);  // PROOF is on its way, or will be repeated
      case Stage::proving:
      case Stage::complete:
        return rejudge(packet, *exchange);
      case Stage::open:
        return rejudge_open(packet, *exchange);
      case Stage::asking:
        return drop(packet, Reason::unproved_data);
      case Stage::refused:
        break;
    }
  }
  return refuse_unknown(packet, packet.role(), nullptr);
}

/// Where handshakes had to be given up it may have been one of them: no word, so that the sender
/// tries again.
void Datagrams::refuse_unknown(const Packet& packet, Role role, const DatagramExchange* exchange) {
  const bool may_be_evicted = exchange == nullptr && crowding_.given_up > 0 &&
                              packet.now.monotonic < crowding_.last + DatagramTable::kSettled;
  return may_be_evicted
             ? drop(packet, Reason::crowded)
             : refuse(packet, Reason::unknown_handshake, event(packet.key(role), exchange));
}

void Datagrams::take_control(const Packet& packet) {
  switch (static_cast<wire::Message>(wire::control_message(packet.datagram.payload()))) {
    case wire::Message::hello:
      return take_hello(packet);
    case wire::Message::reply:
      return take_reply(packet);
    case wire::Message::proof:
      return take_proof(packet);
    case wire::Message::ready:
      return take_ready(packet);
    case wire::Message::refusal:
      return take_refusal(packet);
    case wire::Message::meet:
      return take_meet(packet);
  }
  return drop(packet, Reason::malformed_token);
}

/// The flow has the number of somebody else, whose ports this socket has now. Conntrack's entry
/// stays until both ends know that the flow has ended: it is what keeps this one out.
void Datagrams::take_over(const Packet& packet) {
  const FlowKey key = packet.key(packet.role());
  if (packet.is(kFresh) && !has_anothers_ends(packet)) {
    return accept(packet, Ruling::exempt);  // remembered by rules alone
  }
  if (packet.facts.outgoing && !packet.is(kAnswers)) {
    // The far end still knows the flow: it is ended there first.
    DatagramExchange* known = table_.find(key);
    if (known != nullptr && known->is_closing &&
        (known->stage == Stage::asking || known->stage == Stage::proving)) {
      const bool may_wait =
          known->successor != nullptr && known->successor->number == packet.number();
      return may_wait ? hold(packet, *known) : drop(packet, Reason::taken_over);
    }
    const bool may_ask = known == nullptr || known->refused_until <= packet.now.monotonic;
    return may_ask ? ask(packet, known, {.closing = true}) : drop(packet, Reason::taken_over);
  }
  Event report = event(key, nullptr);
  report.local = packet.number();
  return refuse(packet, Reason::taken_over, std::move(report));
}

void Datagrams::hold(const Packet& packet, DatagramExchange& exchange) {
  const auto give_up = [&](std::uint32_t entry, const Holder& largest) {
    held_crowding_.note(largest, packet.now.monotonic);
    drop_held(table_.at(entry));
  };
  if (!held_.add(table_.index(exchange), owner(packet, exchange.key.role), exchange.held,
                 packet.facts.id, packet.datagram.length(), give_up)) {
    drop(packet, Reason::crowded);
  }
}

void Datagrams::release(DatagramExchange& exchange, std::uint32_t priority,
                        std::uint32_t if_followed) {
  for (const std::uint32_t id : exchange.held.all()) {
    accept_waiting(exchange.key.point, id, priority, if_followed);
  }
  let_go(exchange);
}

/// Authorises the flow only if exactly one datagram waited, and nothing waits behind it. With
/// several, a datagram sent right after them would take the kernel's path and overtake those still
/// queued.
void Datagrams::release_proved(DatagramExchange& exchange, std::uint32_t authorisation) {
  constexpr auto kLet = static_cast<std::uint32_t>(Ruling::let);
  const bool is_alone = exchange.key.role == Role::client && exchange.held.count == 1;
  release(exchange, is_alone ? authorisation : kLet, kLet);
}

void Datagrams::let_go(DatagramExchange& exchange) {
  held_.forget(table_.index(exchange), exchange.held);
}

void Datagrams::drop_held(DatagramExchange& exchange) {
  for (const std::uint32_t id : exchange.held.all()) {
    drop_waiting(exchange.key.point, id);
  }
  let_go(exchange);
}

void Datagrams::remove(DatagramExchange& exchange) {
  drop_held(exchange);
  table_.remove(exchange);
}

DatagramExchange& Datagrams::make(const Packet& packet, Role role) {
  const FlowKey key = packet.key(role);
  if (DatagramExchange* known = table_.find(key)) {
    forget_request(*known);
    remove(*known);
  }
  while (DatagramExchange* surplus = table_.surplus()) {
    crowding_.note(table_.shares().largest(), packet.now.monotonic);
    remove(*surplus);
  }
  return table_.make(key, owner(packet, role), packet.now.monotonic);
}

ControlDatagram Datagrams::control(const DatagramExchange& exchange, std::size_t size) const {
  const FlowKey& key = exchange.key;
  return {.point = key.point,
          .ends = {key.local, key.remote, key.local_port, key.remote_port},
          .data = std::span(data_).first(size),
          .priority = kControlPriority | exchange.local->number,
          .mark = exchange.mark,
          .device = exchange.device,
          .flow_label = exchange.flow_label,
          .traffic_class = exchange.traffic_class,
          .translated = exchange.translated};
}

void Datagrams::send(const DatagramExchange& exchange, std::size_t size) {
  if (size != 0) {
    around_.actions.add(control(exchange, size));
  }
}

std::size_t Datagrams::write_tag(const DatagramExchange& exchange, wire::Message message,
                                 const Tag& tag) {
  wire::write_tag_message({message, exchange.type, flags_of(exchange), tag},
                          std::span(data_).first<wire::kTagDatagram>());
  return wire::kTagDatagram;
}

bool Datagrams::belongs_to(const wire::TagMessage& message, const DatagramExchange& exchange) {
  return message.type == exchange.type &&
         ((message.flags & wire::kClosing) != 0) == exchange.is_closing;
}

/// A flow that was authorised by proof, and is so no longer or not yet.
void Datagrams::rejudge(const Packet& packet, DatagramExchange& exchange) {
  const Judgement judgement = rulings_.of_proof(exchange, packet.now);
  if (judgement.reason == Reason::busy) {
    return drop(packet, Reason::busy);
  }
  if (judgement.reason == Reason::none) {
    const auto since = packet.now.monotonic - exchange.proved;
    if (since < kTogether) {
      return accept(packet, Ruling::let);
    }
    const Ruling ruling = ruling_of(judgement.decision);
    return since < kLongest ? accept_unless_followed(packet, ruling, exchange.remote->number)
                            : accept(packet, ruling, exchange.remote->number);
  }
  rulings_.refuse(exchange, judgement);
  drop_held(exchange);
  table_.remove(exchange);
  return turn_away(packet);
}

void Datagrams::rejudge_open(const Packet& packet, DatagramExchange& exchange) {
  if (const auto ruling = rulings_.of_open(exchange)) {
    return accept(packet, *ruling);
  }
  rulings_.refuse(exchange, {.reason = Reason::no_answer, .decision = {}});
  table_.remove(exchange);
  return turn_away(packet);
}

void Datagrams::tick(const Now& now) {
  while (around_.actions.has_room()) {
    DatagramExchange* exchange = table_.due(now.monotonic);
    if (exchange == nullptr) {
      return;
    }
    switch (exchange->stage) {
      case Stage::asking:
        repeat_hello(*exchange, now);
        break;
      case Stage::proving:
        repeat_proof(*exchange, now);
        break;
      case Stage::answered:
      case Stage::complete:
      case Stage::open:
      case Stage::refused:
        remove(*exchange);
        break;
    }
  }
}

/// Its queue is gone, and what waited in it.
void Datagrams::forget_point(PointId point) {
  table_.each_of_point(point, [this](DatagramExchange& gone) {
    let_go(gone);
    table_.remove(gone);
  });
}

void Datagrams::refuse(const Packet& packet, Reason reason, Event report) {
  rulings_.refuse(std::move(report), reason);
  return turn_away(packet);
}

void Datagrams::turn_away(const Packet& packet) {
  if (!rulings_.audits()) {
    return accept(packet, Ruling::refuse);
  }
  if (wire::is_control(packet.datagram.payload())) {
    return discard(packet);
  }
  accept(packet, packet.is(kTakenOver) ? Ruling::pass : Ruling::audit);
}

}  // namespace trireme::handshake
