// SPDX-License-Identifier: Apache-2.0
#include "udp/datagrams.hpp"

#include <algorithm>

namespace trireme::handshake {
namespace {

// After PROOF, a flow is not authorized for kTogether (one clock tick), nor for up to kLongest
// while more packets are queued. Otherwise a later datagram would take the kernel path and overtake
// the queued ones. Without kLongest, a permanently backlogged thread would never authorize the
// flow.
constexpr Milliseconds kTogether{4};
constexpr Milliseconds kLongest{100};

}  // namespace

Datagrams::Datagrams(std::size_t capacity, std::uint64_t seed, const Surroundings& surroundings)
    : Carrier(kUdp, surroundings),
      table_(capacity, seed, surroundings.budget),
      nobody_(std::make_shared<const LocalIdentity>(0, policy::LabelSet{})),
      host_(std::make_shared<const LocalIdentity>(abi::kHost, policy::LabelSet{})),
      held_(capacity, seed) {}

/// The owner is the side that began the flow.
Owner Datagrams::owner(const Packet& packet, Role role) {
  return role == Role::client
             ? Owner::workload(packet.number())
             : Owner::address(packet.facts.outgoing ? packet.ends.destination : packet.ends.source);
}

/// Entry point for each UDP packet that the ruleset queues.
void Datagrams::handle(const PacketFacts& facts, const wire::Datagram& datagram, const Now& now) {
  const Packet packet{{facts, now, datagram.ends()}, datagram};
  const bool is_control = wire::is_control(datagram.payload());
  if (facts.outgoing) {
    // Messages that this host sends itself are not queued, so this one is an application's.
    return is_control ? drop(packet, Reason::malformed_token) : leave(packet);
  }
  return is_control ? take_control(packet) : arrive(packet);
}

void Datagrams::leave(const Packet& packet) {
  if (packet.is(abi::kTakenOver)) {
    return take_over(packet);
  }
  if (!packet.is(abi::kReplies)) {
    return leave_as_client(packet);
  }
  DatagramExchange* exchange = table_.find(packet.key(Role::server));
  if (exchange == nullptr || exchange->stage != Stage::complete || exchange->is_closing) {
    return refuse_unknown(packet, Role::server, exchange);
  }
  return rejudge(packet, *exchange);
}

void Datagrams::arrive(const Packet& packet) {
  if (packet.is(abi::kTakenOver)) {
    return take_over(packet);
  }
  for (const Role role : {Role::server, Role::client}) {
    DatagramExchange* exchange = table_.find(packet.key(role));
    if (exchange == nullptr || exchange->is_closing) {
      continue;
    }
    switch (exchange->stage) {
      case Stage::answered:
        return hold(packet, *exchange);  // PROOF is in transit, or will be repeated
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

/// Refuses a packet of an unknown handshake. If handshakes were evicted recently, it may have been
/// one of them, and the packet is dropped silently so that the sender retries.
void Datagrams::refuse_unknown(const Packet& packet, Role role, const DatagramExchange* exchange) {
  const bool may_be_evicted = exchange == nullptr && crowding_.given_up > 0 &&
                              packet.now.monotonic < crowding_.last + DatagramTable::kFinished;
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

/// Handles a packet of a socket that uses the ports of another workload's flow. The conntrack entry
/// stays until both sides have ended that flow, because the entry is what excludes this socket.
void Datagrams::take_over(const Packet& packet) {
  const FlowKey key = packet.key(packet.role());
  if (packet.is(abi::kFresh) && !has_anothers_ends(packet)) {
    return accept(packet, abi::Ruling::exempt);  // only the ruleset still has the flow
  }
  if (packet.facts.outgoing && !packet.is(abi::kReplies)) {
    // The remote host still knows the flow, so it is ended there first.
    DatagramExchange* known = table_.find(key);
    if (known != nullptr && known->is_closing &&
        (known->stage == Stage::asking || known->stage == Stage::proving)) {
      const bool may_wait =
          known->successor != nullptr && known->successor->number == packet.number();
      return may_wait ? hold(packet, *known) : drop(packet, Reason::taken_over);
    }
    const bool may_ask = known == nullptr || known->refused_until <= packet.now.monotonic;
    return may_ask ? begin_as_client(packet, known, {.closing = true})
                   : drop(packet, Reason::taken_over);
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
  forget_held(exchange);
}

/// Authorizes the flow only if exactly one datagram was held and no packet is queued behind it.
/// With several, a datagram sent right after them would take the kernel path and overtake those
/// that are still queued.
void Datagrams::release_proved(DatagramExchange& exchange, std::uint32_t authorization) {
  constexpr auto kLet = static_cast<std::uint32_t>(abi::Ruling::let);
  const bool is_alone = exchange.key.role == Role::client && exchange.held.count == 1;
  release(exchange, is_alone ? authorization : kLet, kLet);
}

void Datagrams::forget_held(DatagramExchange& exchange) {
  held_.forget(table_.index(exchange), exchange.held);
}

void Datagrams::drop_held(DatagramExchange& exchange) {
  for (const std::uint32_t id : exchange.held.all()) {
    drop_waiting(exchange.key.point, id);
  }
  forget_held(exchange);
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
          .priority = abi::kControlPriority | exchange.local->number,
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

/// Re-evaluates a flow that was proved but is not authorized in conntrack, no longer or not yet.
void Datagrams::rejudge(const Packet& packet, DatagramExchange& exchange) {
  const Judgement judgement = rulings_.of_proof(exchange, packet.now);
  if (judgement.reason == Reason::busy) {
    return drop(packet, Reason::busy);
  }
  if (judgement.reason == Reason::none) {
    const auto since = packet.now.monotonic - exchange.proved;
    if (since < kTogether) {
      return accept(packet, abi::Ruling::let);
    }
    const abi::Ruling ruling = ruling_of(judgement.decision);
    return since < kLongest ? accept_unless_followed(packet, ruling, exchange.remote->number)
                            : accept(packet, ruling, exchange.remote->number);
  }
  rulings_.report_refused(exchange, judgement);
  drop_held(exchange);
  table_.remove(exchange);
  return turn_away(packet);
}

void Datagrams::rejudge_open(const Packet& packet, DatagramExchange& exchange) {
  if (const auto ruling = rulings_.of_open(exchange)) {
    return accept(packet, *ruling);
  }
  rulings_.report_refused(exchange, {.reason = Reason::no_answer, .decision = {}});
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

/// The point's queue no longer exists, so held packets need no verdict.
void Datagrams::forget_point(PointId point) {
  table_.each_of_point(point, [this](DatagramExchange& gone) {
    forget_held(gone);
    table_.remove(gone);
  });
}

void Datagrams::refuse(const Packet& packet, Reason reason, Event report) {
  rulings_.report_refused(std::move(report), reason);
  return turn_away(packet);
}

void Datagrams::turn_away(const Packet& packet) {
  if (!rulings_.audits()) {
    return accept(packet, abi::Ruling::refuse);
  }
  if (wire::is_control(packet.datagram.payload())) {
    return discard(packet);
  }
  accept(packet, packet.is(abi::kTakenOver) ? abi::Ruling::pass : abi::Ruling::audit);
}

}  // namespace trireme::handshake
