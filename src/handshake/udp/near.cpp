// SPDX-License-Identifier: Apache-2.0
// UDP flows between two workloads of this host. The first datagram waits while MEET is sent on the
// flow. The server's side decides, and READY makes the client's side look up the decision.
#include <algorithm>

#include "near.hpp"
#include "udp/datagrams.hpp"

namespace trireme::handshake {
namespace {

/// How long the conntrack entry of a flow may remain after the flow has ended.
constexpr Milliseconds kEnding{1'000};

}  // namespace

/// If the server's side has decided, decides on the client's side too. False: no decision yet.
bool Datagrams::meet(DatagramExchange& exchange, const Now& now) {
  Rendezvous& requests = around_.proved.first_datagrams;
  const Meeting meeting = meeting_of(exchange, requests, now);
  if (meeting.met == Met::nobody) {
    return false;
  }
  exchange.failures = 0;
  exchange.near_number = meeting.server->number;
  forget_request(exchange);
  if (exchange.is_closing) {
    close(exchange, now);
    return true;
  }
  Reason reason = Reason::none;
  auto remote = identity_here(*meeting.server, exchange.key.remote, around_, now, reason);
  if (remote == nullptr) {
    refuse_client(exchange, {.reason = reason, .decision = {}}, now);
    return true;
  }
  exchange.peer = remote->peer;
  const auto decision = judge_server(exchange, std::move(remote), now);
  if (!decision) {
    return true;
  }
  if (meeting.met == Met::refused) {
    refuse_client(exchange, {.reason = Reason::policy, .decision = *decision}, now);
    return true;
  }
  exchange.proved = now.monotonic;
  table_.finish(exchange, Stage::complete, now.monotonic);
  admit(exchange, *decision, now);
  return true;
}

void Datagrams::take_meet(const Packet& packet) {
  const FlowKey key = packet.key(Role::server);
  if (packet.is(abi::kTakenOver) && packet.is(abi::kReplies)) {
    return drop(packet, Reason::taken_over);  // the flow that this side began must end first
  }
  Event report = event(key, nullptr);
  report.local = packet.number();
  const auto local = around_.locals.find(packet.facts.point, packet.number());
  if (local == nullptr) {
    return refuse(packet, Reason::unknown_workload, std::move(report));
  }
  const auto meet = wire::read_tag_message(wire::Message::meet, packet.datagram.payload());
  if (!meet || !packet.datagram.is_whole()) {
    return drop(packet, Reason::malformed_token);
  }
  if (DatagramExchange* known = table_.find(key); known != nullptr) {
    const bool is_same = known->is_near && known->local == local &&
                         std::ranges::equal(known->client_nonce, meet->tag);
    if (is_same && known->stage == Stage::complete && !known->is_closing) {
      confirm(*known);
      return discard(packet);
    }
    // This MEET matched the conntrack entry of the flow that just ended, which is removed right
    // after READY.
    if (known->is_closing && known->stage == Stage::complete && !packet.is(abi::kFresh) &&
        known->since + kEnding > packet.now.monotonic) {
      return drop(packet, Reason::taken_over);
    }
  }
  const Arrival arrival = arrival_of(around_.proved.first_datagrams, request_of(meet->tag), kUdp,
                                     key, packet.facts, packet.now);
  if (arrival.question.about != Question::About::nothing) {
    return around_.actions.ask(arrival.question);
  }
  if (!arrival.fits || !may_follow(packet, *arrival.departure)) {
    rulings_.report_refused(std::move(report), Reason::other_address);
    return discard(packet);
  }
  return decide_on_meet(packet, *arrival.departure, meet->tag, local);
}

/// A closing MEET must come from the network namespace that began the flow. While conntrack knows a
/// flow, a MEET from another namespace must not take over its addresses and ports.
bool Datagrams::may_follow(const Packet& packet, const Departure& departure) {
  if (departure.is_closing) {
    return around_.proved.datagrams.find(departure.key).has_value();
  }
  const DatagramExchange* known = table_.find(packet.key(Role::server));
  return packet.is(abi::kFresh) || known == nullptr || !known->is_near || known->is_closing ||
         known->stage != Stage::complete || known->near_point == departure.key.point;
}

void Datagrams::forget_request(const DatagramExchange& exchange) {
  if (exchange.is_near && exchange.key.role == Role::client) {
    around_.proved.first_datagrams.remove(request_of(exchange.client_nonce));
  }
}

void Datagrams::decide_on_meet(const Packet& packet, const Departure& departure, Bytes tag,
                               std::shared_ptr<const LocalIdentity> local) {
  Rendezvous& requests = around_.proved.first_datagrams;
  const auto begin = [&](std::shared_ptr<const RemoteIdentity> remote) -> DatagramExchange& {
    DatagramExchange& exchange = make(packet, Role::server);
    accept_meet(exchange, tag, &departure, local, std::move(remote), around_);
    exchange.ready = exchange.client_nonce;
    exchange.mark = packet.facts.mark;
    exchange.device = is_on_link(packet.ends.source) ? packet.facts.in_device : 0;
    exchange.flow_label = packet.datagram.flow_label();
    table_.finish(exchange, Stage::complete, packet.now.monotonic);
    return exchange;
  };
  if (departure.is_closing) {
    DatagramExchange& exchange = begin(nullptr);
    exchange.is_closing = true;
    change(exchange.key, FlowChange::withdraw);  // before the client's side can know, see go_on()
    discard(packet);
    return await(packet, exchange);
  }
  if (packet.is(abi::kTakenOver)) {
    // The ruleset writes a number into a conntrack label only once. The repeated MEET creates a new
    // entry.
    change(packet.key(Role::server), FlowChange::forget);
    return drop(packet, Reason::taken_over);
  }
  Event report = event(packet.key(Role::server), nullptr);
  report.local = local->number;
  report.self = local;
  Reason reason = Reason::none;
  auto remote = identity_here(*departure.client, packet.ends.source, around_, packet.now, reason);
  if (remote == nullptr) {
    return reason == Reason::crowded ? refuse(packet, reason, std::move(report))
                                     : drop(packet, reason);
  }
  const policy::Decision decision =
      rulings_.of_claim(*local, *remote, packet.ends.destination_port);
  if (decision.verdict == policy::Verdict::deny) {
    requests.decide(departure.request, {Met::refused, local});
    report.remote = std::move(remote);
    report.near = departure.client->number;
    say(report, decision);
    return refuse(packet, Reason::policy, std::move(report));
  }
  DatagramExchange& exchange = begin(std::move(remote));
  exchange.proved = packet.now.monotonic;
  rulings_.report_authorized(exchange, decision, packet.now);
  // Before the client's side learns of the decision, conntrack must have the flow as authorized and
  // as begun by the client. So the packet gets its verdict first, and go_on() does the rest.
  wire::write_sink(packet.datagram, changed_);
  const bool is_audited = decision.verdict == policy::Verdict::audit;
  accept_changed(packet, is_audited ? abi::Ruling::pass : abi::Ruling::meet,
                 is_audited ? 0 : exchange.remote->number);
  await(packet, exchange);
}

}  // namespace trireme::handshake
