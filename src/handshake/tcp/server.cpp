// SPDX-License-Identifier: Apache-2.0
// TCP handshake, server's side, up to PROOF: checks HELLO, and sends REPLY with the SYN-ACK.
#include <algorithm>

#include "near.hpp"
#include "tcp/connections.hpp"
#include "trireme/wire/control.hpp"

namespace trireme::handshake {

using wire::Token;

namespace {

/// How long a handshake in progress blocks another SYN on its ports. TCP repeats that SYN.
constexpr Milliseconds kUndisturbed{3'000};

/// Remembers the fields of the SYN-ACK, which may have to be sent again: see await_proof().
void remember_syn_ack(const PacketFacts& facts, const wire::Segment& syn_ack,
                      Handshake& handshake) {
  handshake.mark = facts.mark;
  handshake.device = facts.out_device;
  handshake.own = {syn_ack.ends(),      syn_ack.sequence(),   syn_ack.acknowledgement(),
                   syn_ack.window(),    syn_ack.timestamps(), syn_ack.traffic_class(),
                   syn_ack.flow_label()};
}

bool is_half_open(const Handshake& handshake) {
  return handshake.phase == Phase::asked || handshake.phase == Phase::answered;
}

/// True if the SYN is a repetition of the one that began this handshake.
bool repeats(const Handshake& handshake, const wire::Segment& syn, const Token& token,
             const std::shared_ptr<const LocalIdentity>& local) {
  return handshake.sequence == syn.sequence() &&
         std::ranges::equal(handshake.client_nonce, token.nonce) && handshake.local == local;
}

}  // namespace

/// True if the SYN is a repetition of the request that was authorized, to the same workload.
bool Connections::is_met(const Packet& packet, const Handshake& known) const {
  const auto meet = wire::read_tag_message(wire::Message::meet, packet.segment.payload(), false);
  return known.is_near && known.phase == Phase::complete &&
         known.sequence == packet.segment.sequence() && known.local->number == packet.number() &&
         rulings_.is_here(known) && meet && std::ranges::equal(meet->tag, known.client_nonce);
}

/// Handles a SYN on a flow that is already authorized. If the earlier connection still exists, its
/// TCP answers with an acknowledgment, the client that has lost the connection answers that with a
/// reset (RFC 9293, section 3.5.1), and its next SYN begins a new one. If only the authorization is
/// left, nothing may use it, not even a SYN that the listener would answer: conntrack's entry is
/// removed, and the SYN that TCP repeats begins a new handshake.
void Connections::take_hello_again(const Packet& packet) {
  if (const Handshake* known = table_.find(packet.key(Role::server), packet.now.monotonic);
      known != nullptr && is_met(packet, *known)) {
    return pass_without_token(packet);
  }
  const auto socket = tcp_socket(packet);
  if (!socket) {
    return;
  }
  if (socket->state == TcpState::unknown) {
    return drop(packet, Reason::busy);
  }
  const bool lives = socket->state == TcpState::open;
  if (Handshake* known = table_.find(packet.key(Role::server), packet.now.monotonic);
      known != nullptr && !(lives && known->phase == Phase::complete)) {
    table_.remove(*known);
  }
  if (!lives) {
    around_.proved.connections.remove(packet.key(Role::server));
    change(packet.key(Role::server), FlowChange::forget);
    return drop(packet, Reason::conflict);
  }
  rulings_.count(Reason::conflict);
  pass_without_token(packet);
}

void Connections::pass_without_token(const Packet& packet) {
  return wire::strip(packet.segment, changed_) ? accept_changed(packet, abi::Ruling::pass)
                                               : drop(packet, Reason::malformed_packet);
}

void Connections::take_hello(const Packet& packet) {
  if (packet.is(abi::kDecided)) {
    return take_hello_again(packet);
  }
  if (is_finishing_) {
    return discard(packet);
  }
  if (wire::control_message(packet.segment.payload()) ==
      static_cast<std::uint8_t>(wire::Message::meet)) {
    return take_meet(packet);
  }
  const FlowKey key = packet.key(Role::server);
  Event report = event(packet, Role::server, nullptr);
  report.local = packet.number();
  const auto local = around_.locals.find(packet.facts.point, packet.number());
  if (local == nullptr) {
    return refuse(packet, Reason::unknown_workload, std::move(report));
  }
  const auto token = wire::read_token(wire::Message::hello, packet.segment.payload());
  if (!token || !packet.segment.is_whole()) {
    const bool version = !token && token.error() == wire::BadToken::version;
    report.detail =
        token ? "" : unreadable(token.error(), packet.ends.source, packet.segment.payload());
    return refuse(packet, version ? Reason::version : Reason::malformed_token, std::move(report));
  }
  if (const Handshake* client = table_.find(packet.key(Role::client), packet.now.monotonic);
      client != nullptr && client->phase == Phase::asked) {
    return refuse(packet, Reason::simultaneous_open, std::move(report));
  }
  Handshake* known = table_.find(key, packet.now.monotonic);
  const bool again = known != nullptr && repeats(*known, packet.segment, *token, local);
  if (again && known->phase == Phase::complete) {
    // Late, or a replay after the connection has ended: accepting it would authorize new data by
    // the earlier proof.
    return drop(packet, Reason::conflict);
  }
  if (!again && around_.proved.connections.find(key)) {
    // Conntrack has forgotten a connection that may still exist; a new SYN must not end it.
    const auto socket = tcp_socket(packet);
    if (!socket) {
      return;
    }
    if (socket->state == TcpState::open || socket->state == TcpState::unknown) {
      return take_hello_again(packet);
    }
    around_.proved.connections.remove(key);
  }
  if (known != nullptr) {
    if (again && is_half_open(*known)) {
      return pass_without_token(packet);
    }
    if (is_half_open(*known) && known->since + kUndisturbed > packet.now.monotonic &&
        known->local == local) {
      return drop(packet, Reason::conflict);
    }
  }
  return judge_hello(packet, *token, local);
}

/// Handles the request of another workload of this host, which authorizes the flow.
void Connections::take_meet(const Packet& packet) {
  const FlowKey key = packet.key(Role::server);
  Event report = event(packet, Role::server, nullptr);
  report.local = packet.number();
  const auto local = around_.locals.find(packet.facts.point, packet.number());
  if (local == nullptr) {
    return refuse(packet, Reason::unknown_workload, std::move(report));
  }
  const auto meet = wire::read_tag_message(wire::Message::meet, packet.segment.payload(), false);
  if (!meet || !packet.segment.is_whole()) {
    report.detail = meet ? "" : wire::text(meet.error());
    return refuse(packet, Reason::malformed_token, std::move(report));
  }
  if (const Handshake* client = table_.find(packet.key(Role::client), packet.now.monotonic);
      client != nullptr && client->phase == Phase::asked) {
    return refuse(packet, Reason::simultaneous_open, std::move(report));
  }
  if (around_.proved.connections.find(key)) {
    const auto socket = tcp_socket(packet);
    if (!socket) {
      return;
    }
    if (socket->state == TcpState::open || socket->state == TcpState::unknown) {
      return take_hello_again(packet);
    }
    around_.proved.connections.remove(key);
  }
  const Arrival arrival = arrival_of(around_.proved.requests, request_of(meet->tag), kTcp, key,
                                     packet.facts, packet.now);
  if (arrival.question.about != Question::About::nothing) {
    return around_.actions.ask(arrival.question);
  }
  if (arrival.departure && !arrival.fits && packet.is(abi::kAnyNat)) {
    return await_translation(packet, meet->tag, local);
  }
  if (!arrival.fits) {
    // A neighbor relays it, or an earlier daemon sent it; in the latter case TCP repeats it.
    rulings_.report_refused(std::move(report), Reason::other_address);
    return discard(packet);
  }
  Nonce tag{};
  std::ranges::copy(meet->tag, tag.begin());
  return decide_on_meet(packet, *arrival.departure, tag, local);
}

/// NAT of this network namespace applies to the flow, and conntrack knows the translation only
/// after the request has been accepted. The decision is made at the SYN-ACK; until then nothing but
/// the request passes.
void Connections::await_translation(const Packet& packet, Bytes tag,
                                    std::shared_ptr<const LocalIdentity> local) {
  if (!wire::strip(packet.segment, changed_)) {
    return drop(packet, Reason::malformed_packet);
  }
  Handshake& handshake = table_.make(packet.key(Role::server), Owner::address(packet.ends.source),
                                     packet.now.monotonic);
  handshake.sequence = packet.segment.sequence();
  accept_meet(handshake, tag, nullptr, std::move(local), nullptr, around_);
  return accept_changed(packet, abi::Ruling::pass);
}

void Connections::reply_to_meet(const Packet& packet, Handshake& handshake) {
  const Arrival arrival = arrival_of(around_.proved.requests, request_of(handshake.client_nonce),
                                     kTcp, handshake.key, packet.facts, packet.now);
  if (arrival.question.about != Question::About::nothing) {
    return around_.actions.ask(arrival.question);
  }
  if (!arrival.fits) {
    Event report = event(packet, Role::server, &handshake);
    table_.remove(handshake);
    return refuse(packet, Reason::other_address, std::move(report));
  }
  return decide_on_meet(packet, *arrival.departure, Nonce(handshake.client_nonce), handshake.local);
}

void Connections::decide_on_meet(const Packet& packet, const Departure& departure, const Nonce& tag,
                                 std::shared_ptr<const LocalIdentity> local) {
  Event report = event(packet, Role::server, nullptr);
  report.local = local->number;
  report.self = local;
  const bool is_answer = packet.facts.outgoing;
  const std::uint16_t port = is_answer ? packet.ends.source_port : packet.ends.destination_port;
  Reason reason = Reason::none;
  auto remote = identity_here(*departure.client, packet.remote(), around_, packet.now, reason);
  if (remote == nullptr) {
    return reason == Reason::crowded ? refuse(packet, reason, std::move(report))
                                     : drop(packet, reason);
  }
  const policy::Decision decision = rulings_.of_claim(*local, *remote, port);
  if (decision.verdict == policy::Verdict::deny) {
    around_.proved.requests.decide(departure.request, {Met::refused, std::move(local)});
    report.remote = std::move(remote);
    report.near = departure.client->number;
    say(report, decision);
    return refuse(packet, Reason::policy, std::move(report));
  }
  if (!is_answer && !wire::strip(packet.segment, changed_)) {
    return drop(packet, Reason::malformed_packet);
  }
  const std::uint32_t sequence =
      is_answer ? packet.segment.acknowledgement() - 1 : packet.segment.sequence();
  Handshake& handshake = table_.make(
      packet.key(Role::server), Owner::workload(departure.client->number), packet.now.monotonic);
  handshake.sequence = sequence;
  accept_meet(handshake, tag, &departure, local, std::move(remote), around_);
  table_.enter(handshake, Phase::complete, packet.now.monotonic);
  rulings_.report_authorized(handshake, decision, packet.now);
  remember(handshake, packet.now);
  around_.proved.requests.decide(departure.request, {Met::allowed, std::move(local)});
  if (is_answer) {
    return accept(packet, ruling_of(decision), handshake.remote->number);
  }
  return accept_changed(
      packet, decision.verdict == policy::Verdict::audit ? abi::Ruling::audit : abi::Ruling::meet,
      handshake.remote->number);
}

void Connections::judge_hello(const Packet& packet, const Token& token,
                              std::shared_ptr<const LocalIdentity> local) {
  Event report = event(packet, Role::server, nullptr);
  report.local = local->number;
  Claim claim = check_hello(token, packet.ends.source, around_, packet.now);
  if (claim.silent) {
    return drop(packet, claim.refusal);
  }
  if (claim.remote == nullptr) {
    report.detail = std::move(claim.detail);
    return refuse_hello(packet, token, claim.peer.get(), claim.refusal, std::move(report));
  }
  const policy::Decision decision =
      rulings_.of_claim(*local, *claim.remote, packet.ends.destination_port);
  if (decision.verdict == policy::Verdict::deny) {
    report.remote = std::move(claim.remote);  // claimed, not proved yet
    say(report, decision);
    return refuse_hello(packet, token, claim.peer.get(), Reason::policy, std::move(report));
  }
  if (!wire::strip(packet.segment, changed_)) {
    return drop(packet, Reason::malformed_packet);
  }
  Handshake& handshake = table_.make(packet.key(Role::server), Owner::address(packet.ends.source),
                                     packet.now.monotonic);
  handshake.sequence = packet.segment.sequence();
  accept_hello(handshake, token, claim, std::move(local), around_);
  return accept_changed(packet, abi::Ruling::pass);
}

/// Sends a reset with REFUSAL ahead of the reset with which the ruleset answers the SYN. None is
/// sent if NAT of this network namespace applies to the flow: conntrack does not know the
/// translation yet, so the reset would leave with the wrong address.
void Connections::refuse_hello(const Packet& packet, const Token& hello,
                               const credentials::Peer* peer, Reason reason, Event&& report) {
  const policy::Address& source = packet.ends.source;
  const bool tells = peer != nullptr && rulings_.tells_peers() && !packet.is(abi::kAnyNat) &&
                     around_.budget.can_tell(source, packet.now.monotonic);
  const auto flow = tells ? translation(packet, packet.key(Role::server)) : std::nullopt;
  if (tells && !flow) {
    return;
  }
  RefusalRoom room;
  const auto refusal = flow && around_.budget.may_tell(source, packet.now.monotonic)
                           ? make_refusal(hello, *peer, reason, *flow, room, around_)
                           : std::nullopt;
  const std::size_t size = refusal ? wire::write_token(*refusal, token_) : 0;
  if (size != 0) {
    const wire::Ends& ends = packet.ends;
    OwnSegment own;
    own.point = packet.facts.point;
    own.segment.ends = {ends.destination, ends.source, ends.destination_port, ends.source_port};
    own.segment.acknowledgement = packet.segment.sequence() + 1;
    own.refusal = std::span(token_).first(size);
    own.device = is_on_link(ends.source) ? packet.facts.in_device : 0;
    around_.actions.add(own);
  }
  refuse(packet, reason, std::move(report));
}

void Connections::reply(const Packet& packet) {
  Handshake* handshake = table_.find(packet.key(Role::server), packet.now.monotonic);
  if (handshake == nullptr) {
    return refuse_unknown(packet, Role::server);
  }
  if (handshake->phase == Phase::open) {
    return accept(packet, abi::Ruling::pass);
  }
  if (handshake->is_near) {
    return handshake->phase == Phase::complete ? accept(packet, abi::Ruling::pass)
                                               : reply_to_meet(packet, *handshake);
  }
  if (handshake->phase == Phase::complete) {
    // PROOF has arrived since, or this SYN-ACK answers a SYN on a flow that is already authorized.
    return drop(packet, Reason::conflict);
  }
  if (is_finishing_ && handshake->phase == Phase::asked) {
    return discard(packet);
  }
  if (!handshake->is_prepared) {
    const auto flow = translation(packet, handshake->key);
    if (!flow) {
      return;
    }
    if (!prepare_reply(*handshake, *flow, around_)) {
      return drop(packet, Reason::trust_failed);
    }
  }
  const std::size_t labels = handshake->local->encoded.size();
  const std::size_t needed = wire::reply_size(
      handshake->trust->answer(*handshake->peer).bytes.size(), wire::kReplyStart + labels);
  const std::size_t room = wire::token_room(packet.segment);
  const bool fits = needed <= room;
  if (!fits || packet.segment.is_signed()) {
    Event report = event(packet, Role::server, handshake);
    report.detail = too_large(needed, labels, room);
    table_.remove(*handshake);
    return refuse(packet, fits ? Reason::signed_segments : Reason::token_too_large,
                  std::move(report));
  }
  Tag tag{};
  const Token token =
      make_reply(*handshake, 0, std::span(text_).first(wire::kReplyStart + labels), tag, around_);
  const std::size_t size = wire::write_token(token, token_);
  if (size == 0 || !wire::attach(packet.segment, std::span(token_).first(size), changed_)) {
    return drop(packet, Reason::malformed_packet);
  }
  remember_syn_ack(packet.facts, packet.segment, *handshake);
  if (handshake->phase == Phase::asked) {
    table_.enter(*handshake, Phase::answered, packet.now.monotonic);
  } else {
    handshake->is_repeated = true;
  }
  around_.statistics.replies++;
  return accept_changed(packet, abi::Ruling::pass);
}

}  // namespace trireme::handshake
