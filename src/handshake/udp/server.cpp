// SPDX-License-Identifier: Apache-2.0
// UDP handshake, server's side: checks and answers HELLO, and checks PROOF before any datagram
// reaches the application.
#include <algorithm>

#include "near.hpp"
#include "udp/datagrams.hpp"

namespace trireme::handshake {

using wire::Token;

namespace {

/// How long a handshake in progress blocks another HELLO on its ports.
constexpr Milliseconds kExchangeUndisturbed{1'000};

}  // namespace

void Datagrams::take_hello(const Packet& packet) {
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
  const auto token = wire::read_datagram_token(wire::Message::hello, packet.datagram.payload());
  if (!token || !packet.datagram.is_whole()) {
    const bool version = !token && token.error() == wire::BadToken::version;
    report.detail =
        token ? "" : unreadable(token.error(), packet.ends.source, packet.datagram.payload());
    return refuse(packet, version ? Reason::version : Reason::malformed_token, std::move(report));
  }
  if (DatagramExchange* known = table_.find(key); known != nullptr) {
    const bool is_same =
        std::ranges::equal(known->client_nonce, token->nonce) && known->local == local;
    if (is_same && known->stage == Stage::answered) {
      return reply(packet, *known);
    }
    if (is_same && known->stage == Stage::complete) {
      return discard(packet);  // late, or a replay
    }
    // This HELLO matched the conntrack entry of the flow that just ended, which is removed right
    // after READY. REPLY would then create an entry in the wrong direction.
    if (known->is_closing && known->stage == Stage::complete && !packet.is(abi::kFresh) &&
        known->since + kExchangeUndisturbed > packet.now.monotonic) {
      return drop(packet, Reason::taken_over);
    }
    // It neither ends the flow nor begins a new one.
    const bool is_other = (token->flags & wire::kClosing) == 0 && !packet.is(abi::kFresh);
    const bool is_proved = known->stage == Stage::complete && !known->is_closing && is_other;
    const Milliseconds since = is_proved ? known->proved : known->began;
    if ((is_proved || known->stage == Stage::answered) &&
        since + kExchangeUndisturbed > packet.now.monotonic && known->local == local) {
      return drop(packet, Reason::conflict);
    }
  }
  return judge_hello(packet, *token, local);
}

void Datagrams::judge_hello(const Packet& packet, const Token& token,
                            std::shared_ptr<const LocalIdentity> local) {
  Event report = event(packet.key(Role::server), nullptr);
  report.local = local->number;
  Claim claim = check_hello(token, packet.ends.source, around_, packet.now);
  if (claim.silent) {
    return drop(packet, claim.refusal);
  }
  if (claim.remote == nullptr) {
    report.detail = std::move(claim.detail);
    return refuse_hello(packet, token, claim.peer.get(), claim.refusal, std::move(report));
  }
  const bool is_closing = (token.flags & wire::kClosing) != 0;
  const policy::Decision decision =
      rulings_.of_claim(*local, *claim.remote, packet.ends.destination_port);
  if (!is_closing && decision.verdict == policy::Verdict::deny) {
    report.remote = std::move(claim.remote);  // claimed, not proved yet
    say(report, decision);
    return refuse_hello(packet, token, claim.peer.get(), Reason::policy, std::move(report));
  }
  DatagramExchange& exchange = make(packet, Role::server);
  exchange.is_closing = is_closing;
  exchange.took_over = packet.is(abi::kTakenOver);
  accept_hello(exchange, token, claim, std::move(local), around_);
  exchange.mark = packet.facts.mark;
  exchange.device = is_on_link(packet.ends.source) ? packet.facts.in_device : 0;
  exchange.flow_label = packet.datagram.flow_label();
  table_.await_proof(exchange, packet.now.monotonic);
  return reply(packet, exchange);
}

/// As reply(), but sends REFUSAL. If there is none, the ruleset refuses HELLO. The conntrack entry
/// of HELLO is removed. If HELLO matched an existing flow, no REFUSAL is sent and that flow is not
/// changed.
void Datagrams::refuse_hello(const Packet& packet, const Token& hello,
                             const credentials::Peer* peer, Reason reason, Event&& report) {
  const policy::Address& source = packet.ends.source;
  const bool tells = peer != nullptr && rulings_.tells_peers() && packet.is(abi::kFresh) &&
                     !packet.is(abi::kTakenOver) && !packet.is(abi::kAnyNat) &&
                     around_.budget.can_tell(source, packet.now.monotonic);
  const auto flow = tells ? translation(packet, packet.key(Role::server)) : std::nullopt;
  if (tells && !flow) {
    return;
  }
  const policy::Number local = report.local;
  rulings_.report_refused(std::move(report), reason);
  RefusalRoom room;
  const auto refusal = flow && around_.budget.may_tell(source, packet.now.monotonic)
                           ? make_refusal(hello, *peer, reason, *flow, room, around_)
                           : std::nullopt;
  const std::size_t size = refusal ? wire::write_datagram_token(*refusal, data_) : 0;
  if (size == 0 || size > packet.datagram.payload_size()) {
    return turn_away(packet);
  }
  const wire::Ends& ends = packet.ends;
  answering_ = {packet.key(Role::server), std::nullopt, {}};
  answering_.refusal = {
      .point = packet.facts.point,
      .ends = {ends.destination, ends.source, ends.destination_port, ends.source_port},
      .data = std::span(data_).first(size),
      .priority = abi::kControlPriority | local,
      .device = is_on_link(ends.source) ? packet.facts.in_device : 0,
      .flow_label = packet.datagram.flow_label()};
  wire::write_sink(packet.datagram, changed_);
  accept_changed(packet, abi::Ruling::pass);
  around_.actions.await();
}

/// Accepts HELLO rewritten so that no socket receives it. This creates a conntrack entry whose
/// originator is the client. REPLY is made and sent after that, in go_on().
void Datagrams::reply(const Packet& packet, DatagramExchange& exchange) {
  const std::size_t labels = exchange.local->encoded.size();
  const std::size_t size = wire::reply_size(exchange.trust->answer(*exchange.peer).bytes.size(),
                                            wire::kReplyStart + labels);
  if (size > wire::kMaxControl || size > packet.datagram.payload_size()) {
    Event report = event(exchange.key, &exchange);
    report.detail = size > wire::kMaxControl
                        ? "the labels take " + std::to_string(labels) + " bytes"
                        : "HELLO is shorter than its REPLY";
    remove(exchange);
    return refuse(packet,
                  size > wire::kMaxControl ? Reason::token_too_large : Reason::malformed_token,
                  std::move(report));
  }
  wire::write_sink(packet.datagram, changed_);
  accept_changed(packet, abi::Ruling::pass);
  await(packet, exchange);
}

/// Leaves the rest to go_on(), which runs when the current packet has its verdict.
void Datagrams::await(const Packet& packet, const DatagramExchange& exchange) {
  answering_ = {exchange.key, std::nullopt, {}};
  around_.actions.await();
  if (exchange.is_near || exchange.is_prepared) {
    return;
  }
  // If NAT applies to the flow, conntrack knows the translation only then.
  if (!packet.is(abi::kAnyNat)) {
    answering_.flow = known_translation(exchange.key, packet.facts);
  }
  if (!answering_.flow) {
    around_.actions.ask(about_translation(kUdp, exchange.key, packet.facts.priority));
  }
}

void Datagrams::go_on(const std::optional<Translation>& translation) {
  if (!answering_.refusal.data.empty()) {
    around_.actions.add(answering_.refusal);
    change(answering_.key, FlowChange::forget);
    return;
  }
  DatagramExchange* exchange = table_.find(answering_.key);
  if (exchange == nullptr) {
    return;
  }
  if (exchange->is_near) {
    around_.proved.first_datagrams.decide(request_of(exchange->client_nonce),
                                          {Met::allowed, exchange->local});
    return exchange->is_closing ? end_flow(*exchange) : confirm(*exchange);
  }
  const auto& flow = answering_.flow ? answering_.flow : translation;
  if (!exchange->is_prepared && (!flow || !prepare_reply(*exchange, *flow, around_))) {
    remove(*exchange);
    return;
  }
  const std::size_t text = wire::kReplyStart + exchange->local->encoded.size();
  Tag tag{};
  const Token token =
      make_reply(*exchange, flags_of(*exchange), std::span(text_).first(text), tag, around_);
  around_.statistics.replies++;
  send(*exchange, wire::write_datagram_token(token, data_));
}

void Datagrams::take_proof(const Packet& packet) {
  DatagramExchange* exchange = table_.find(packet.key(Role::server));
  const auto proof = wire::read_tag_message(wire::Message::proof, packet.datagram.payload());
  if (exchange == nullptr ||
      (exchange->stage != Stage::answered && exchange->stage != Stage::complete)) {
    return drop(packet, Reason::unknown_handshake);
  }
  if (!proof || !belongs_to(*proof, *exchange)) {
    return drop(packet, Reason::malformed_token);
  }
  if (!proves(*exchange, proof->tag)) {
    rulings_.report_forged(*exchange, Reason::forged_proof);
    return drop(packet, Reason::forged_proof);  // the valid one may still arrive
  }
  if (exchange->stage != Stage::complete) {
    return accept_proof(packet, *exchange);
  }
  confirm(*exchange);
  discard(packet);
}

void Datagrams::accept_proof(const Packet& packet, DatagramExchange& exchange) {
  if (exchange.is_closing) {
    drop_held(exchange);
    table_.finish(exchange, Stage::complete, packet.now.monotonic);
    end_flow(exchange);
    return discard(packet);
  }
  const Judgement judgement = rulings_.accept_proof(exchange, packet.now);
  if (judgement.reason == Reason::busy) {
    return drop(packet, Reason::busy);
  }
  if (judgement.reason != Reason::none) {
    rulings_.report_refused(exchange, judgement);
    table_.finish(exchange, Stage::refused, packet.now.monotonic);
    release(exchange, static_cast<std::uint32_t>(rulings_.audits() ? abi::Ruling::audit
                                                                   : abi::Ruling::refuse));
    return discard(packet);
  }
  exchange.proved = packet.now.monotonic;
  table_.finish(exchange, Stage::complete, packet.now.monotonic);
  if (exchange.took_over) {
    change(exchange.key, FlowChange::forget);  // READY creates a new entry
  }
  confirm(exchange);
  release_proved(exchange, static_cast<std::uint32_t>(ruling_of(judgement.decision)) |
                               exchange.remote->number);
  discard(packet);
}

/// Ends a flow. READY is sent as a packet of the flow, so the entry must exist until then. Because
/// READY lets another process use the client's address and port, the authorization is withdrawn
/// before it.
void Datagrams::end_flow(const DatagramExchange& exchange) {
  change(exchange.key, FlowChange::withdraw);
  confirm(exchange);
  change(exchange.key, FlowChange::forget);
}

/// Sends READY. It is no larger than PROOF, so it cannot be used for amplification.
void Datagrams::confirm(const DatagramExchange& exchange) {
  send(exchange, write_tag(exchange, wire::Message::ready, exchange.ready));
}

}  // namespace trireme::handshake
