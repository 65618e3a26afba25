// SPDX-License-Identifier: Apache-2.0
// TCP handshake, client's side: HELLO with the SYN, REPLY with the SYN-ACK, PROOF.
#include <algorithm>

#include "near.hpp"
#include "tcp/connections.hpp"
#include "trireme/wire/control.hpp"

namespace trireme::handshake {

using wire::Segment;
using wire::Token;

namespace {

/// Remembers the fields of the SYN that PROOF repeats.
void remember_syn(Handshake& handshake, const PacketFacts& facts, const Segment& syn) {
  handshake.sequence = syn.sequence();
  handshake.mark = facts.mark;
  handshake.device = facts.out_device;
  handshake.translated = (facts.priority & abi::kDestinationNat) != 0;
  handshake.window = syn.window();
  const auto scale = syn.window_scale();
  handshake.has_window_scale = scale.has_value();
  handshake.window_scale = std::min<std::uint8_t>(scale.value_or(0), 14);  // RFC 7323, section 2.3
  handshake.traffic_class = syn.traffic_class();
  handshake.flow_label = syn.flow_label();
  handshake.timestamp = syn.timestamps().value_or(wire::Timestamps{}).value;
}

wire::OwnSegment proof_ack(const Handshake& handshake, const Segment& syn_ack) {
  wire::OwnSegment ack;
  ack.ends = {handshake.key.local, handshake.key.remote, handshake.key.local_port,
              handshake.key.remote_port};
  ack.sequence = handshake.sequence + 1;
  ack.acknowledgement = syn_ack.sequence() + 1;
  const bool scaled = handshake.has_window_scale && syn_ack.window_scale().has_value();
  ack.window = scaled
                   ? std::max<std::uint16_t>(
                         static_cast<std::uint16_t>(handshake.window >> handshake.window_scale), 1)
                   : handshake.window;
  if (const auto timestamps = syn_ack.timestamps()) {
    ack.timestamps = wire::Timestamps{handshake.timestamp, timestamps->value};
  }
  ack.traffic_class = handshake.traffic_class;
  ack.flow_label = handshake.flow_label;
  return ack;
}

Reason reason_of(wire::BadToken bad) {
  return bad == wire::BadToken::version ? Reason::version : Reason::malformed_token;
}

}  // namespace

void Connections::begin_as_client(const Packet& packet) {
  const FlowKey key = packet.key(Role::client);
  Handshake* known = table_.find(key, packet.now.monotonic);
  if (packet.number() == abi::kHost) {
    // An unlabeled process now uses the ports of a workload's flow. Its packets pass unchanged, and
    // the verifier is not needed for this flow any more.
    change(key, FlowChange::clear);
    around_.proved.connections.remove(key);
    Handshake& handshake = table_.make(key, Owner::workload(abi::kHost), packet.now.monotonic);
    handshake.sequence = packet.segment.sequence();
    table_.enter(handshake, Phase::open, packet.now.monotonic);
    return accept(packet, abi::Ruling::pass);
  }
  if (is_finishing_) {
    return discard(packet);
  }
  const auto local = around_.locals.find(packet.facts.point, packet.number());
  if (local == nullptr) {
    Event report = event(packet, Role::client, nullptr);
    report.local = packet.number();
    return refuse(packet, Reason::unknown_workload, std::move(report));
  }
  // A repeated SYN carries the same HELLO even if the trust has changed, or its REPLY has already
  // arrived: the server has answered this HELLO and no other.
  const bool stays = is_near(packet.ends.destination, around_);
  const bool again = known != nullptr && known->is_near == stays &&
                     (known->phase == Phase::asked || known->phase == Phase::complete) &&
                     known->sequence == packet.segment.sequence() && known->local == local;
  Event report = event(packet, Role::client, nullptr);
  report.local = packet.number();
  if (const Reason reason = may_ask(packet.ends.destination, *local, around_, packet.now);
      reason != Reason::none) {
    report.detail = reason == Reason::label_constraint ? "this host's own certificate" : "";
    return refuse(packet, reason, std::move(report));
  }
  if (packet.segment.is_signed()) {
    return refuse(packet, Reason::signed_segments, std::move(report));
  }
  if (!again) {
    around_.proved.connections.remove(key);  // a new connection on the same ports
    forget_request(known);
  }
  Handshake& handshake =
      again ? *known : table_.make(key, Owner::workload(packet.number()), packet.now.monotonic);
  if (stays) {
    return ask_near(packet, handshake, local, again);
  }
  if (!again) {
    if (!make_hello(handshake, 0, local, around_)) {
      table_.remove(handshake);
      return drop(packet, Reason::trust_failed);
    }
    remember_syn(handshake, packet.facts, packet.segment);
  }
  const Token hello = hello_token(handshake, 0);
  const std::size_t size = wire::write_token(hello, token_);
  if (size == 0 || !wire::attach(packet.segment, std::span(token_).first(size), changed_)) {
    report.detail = too_large(wire::hello_size(hello.credential.size(), hello.labels.size()),
                              hello.labels.size(), wire::token_room(packet.segment));
    table_.remove(handshake);
    return refuse(packet, Reason::token_too_large, std::move(report));
  }
  around_.statistics.hellos++;
  handshake.is_repeated = handshake.is_repeated || again;
  return accept_changed(packet, abi::Ruling::pass);
}

void Connections::take_reply(const Packet& packet) {
  Handshake* handshake = table_.find(packet.key(Role::client), packet.now.monotonic);
  if (handshake == nullptr) {
    return refuse_unknown(packet, Role::client);
  }
  if (handshake->phase == Phase::open) {
    return accept(packet, abi::Ruling::pass);
  }
  if (handshake->phase == Phase::refused) {
    return turn_away(packet);  // reported already
  }
  if (packet.segment.acknowledgement() != handshake->sequence + 1) {
    return drop(packet, Reason::conflict);
  }
  if (handshake->phase == Phase::complete && handshake->is_near) {
    return accept(packet, abi::Ruling::pass);
  }
  if (handshake->phase == Phase::complete) {
    // PROOF was lost, so the server repeats its SYN-ACK. The client's TCP has seen that.
    around_.actions.add(own_segment(*handshake));
    return discard(packet);
  }
  if (!rulings_.is_here(*handshake)) {
    return refuse_client(packet, *handshake, Reason::unknown_workload);
  }
  if (handshake->is_near) {
    return meet(packet, *handshake);
  }
  const auto token = wire::read_token(wire::Message::reply, packet.segment.payload());
  if (!token && token.error() == wire::BadToken::no_token) {
    return take_no_reply(packet, *handshake);
  }
  if (!token || !packet.segment.is_whole()) {
    Event report = event(packet, Role::client, handshake);
    if (!token) {
      report.detail = unreadable(token.error(), handshake->key.remote, packet.segment.payload());
    }
    return refuse_client(packet, *handshake,
                         token ? Reason::malformed_token : reason_of(token.error()),
                         std::move(report));
  }
  return accept_reply(packet, *handshake, *token);
}

/// The SYN to a workload of this host carries MEET. The server's enforcement point decides on it.
void Connections::ask_near(const Packet& packet, Handshake& handshake,
                           std::shared_ptr<const LocalIdentity> local, bool again) {
  Rendezvous& requests = around_.proved.requests;
  if (again) {
    if (handshake.phase == Phase::asked) {  // otherwise the server's side has decided already
      depart_again(handshake, requests, false, packet.now);
    }
  } else if (!depart(handshake, requests, std::move(local), false, around_, packet.now)) {
    table_.remove(handshake);
    return drop(packet, Reason::trust_failed);
  }
  remember_syn(handshake, packet.facts, packet.segment);
  wire::write_tag_message({wire::Message::meet, handshake.type, 0, handshake.client_nonce},
                          std::span(token_).first<wire::kTagDatagram>());
  if (!wire::attach(packet.segment, std::span(token_).first<wire::kTagDatagram>(), changed_)) {
    Event report = event(packet, Role::client, &handshake);
    report.detail = too_large(wire::kTagDatagram, 0, wire::token_room(packet.segment));
    table_.remove(handshake);
    return refuse(packet, Reason::token_too_large, std::move(report));
  }
  handshake.is_repeated = handshake.is_repeated || again;
  return accept_changed(packet, abi::Ruling::pass);
}

/// Handles the SYN-ACK to MEET: looks up the decision of the server's enforcement point.
void Connections::meet(const Packet& packet, Handshake& handshake) {
  const Meeting meeting = meeting_of(handshake, around_.proved.requests, packet.now);
  if (meeting.met == Met::nobody) {
    return take_no_reply(packet, handshake);
  }
  forget_request(&handshake);
  handshake.near_number = meeting.server->number;
  Reason reason = Reason::none;
  handshake.remote = identity_here(*meeting.server, packet.remote(), around_, packet.now, reason);
  if (handshake.remote == nullptr) {
    return refuse_client(packet, handshake, reason);
  }
  handshake.peer = handshake.remote->peer;
  const Judgement judgement = rulings_.of_proof(handshake, packet.now);
  if (judgement.reason != Reason::none || meeting.met == Met::refused) {
    Event report = event(packet, Role::client, &handshake);
    say(report, judgement.decision);
    return refuse_client(packet, handshake,
                         judgement.reason == Reason::none ? Reason::policy : judgement.reason,
                         std::move(report));
  }
  rulings_.report_authorized(handshake, judgement.decision, packet.now);
  table_.enter(handshake, Phase::complete, packet.now.monotonic);
  remember(handshake, packet.now);
  return accept(packet, ruling_of(judgement.decision), handshake.remote->number);
}

void Connections::forget_request(const Handshake* handshake) {
  if (handshake != nullptr && handshake->is_near && handshake->key.role == Role::client) {
    around_.proved.requests.remove(request_of(handshake->client_nonce));
  }
}

void Connections::take_no_reply(const Packet& packet, Handshake& handshake) {
  forget_request(&handshake);
  const policy::Decision decision = rulings_.of_unlabeled(*handshake.local, handshake.key);
  if (decision.verdict == policy::Verdict::deny) {
    Event report = event(packet, Role::client, &handshake);
    say(report, decision);
    return refuse_client(packet, handshake, Reason::no_proof, std::move(report));
  }
  rulings_.report_open(handshake, decision, Reason::no_proof);
  table_.enter(handshake, Phase::open, packet.now.monotonic);
  return accept(packet, ruling_of(decision));
}

void Connections::accept_reply(const Packet& packet, Handshake& handshake, const Token& token) {
  const auto text = std::span(text_).first(token.labels.size());
  ServerClaim claim = check_reply(handshake, token, text, around_, packet.now);
  if (claim.refusal == Reason::none) {
    // REPLY is verified first, so that only the real server can make this host query the kernel.
    const auto flow = translation(packet, handshake.key);
    if (!flow) {
      return;
    }
    bind_reply(claim, handshake, token, text, *flow, around_);
  }
  if (claim.refusal == Reason::busy) {
    return drop(packet, Reason::busy);
  }
  if (claim.refusal == Reason::forged_reply) {
    // This REPLY may not be from the server; the valid one may still arrive.
    rulings_.report_forged(handshake, Reason::forged_reply);
    return drop(packet, Reason::forged_reply);
  }
  if (claim.refusal != Reason::none) {
    Event report = event(packet, Role::client, &handshake);
    report.detail = claim.detail;
    return refuse_client(packet, handshake, claim.refusal, std::move(report));
  }
  Reason reason = Reason::none;
  auto remote = identify(*claim.peer, claim.labels, around_.book, reason);
  if (remote == nullptr) {
    return refuse_client(packet, handshake, reason);
  }
  handshake.remote = std::move(remote);
  handshake.peer = claim.peer->peer;
  const Judgement judgement = rulings_.of_proof(handshake, packet.now);
  if (judgement.reason == Reason::busy) {
    return drop(packet, Reason::busy);
  }
  if (judgement.reason != Reason::none) {
    Event report = event(packet, Role::client, &handshake);
    if (judgement.reason == Reason::policy) {
      say(report, judgement.decision);
    }
    return refuse_client(packet, handshake, judgement.reason, std::move(report));
  }
  return prove(packet, handshake, judgement.decision);
}

void Connections::prove(const Packet& packet, Handshake& handshake,
                        const policy::Decision& decision) {
  if (!wire::strip(packet.segment, changed_)) {
    return drop(packet, Reason::malformed_packet);
  }
  rulings_.report_authorized(handshake, decision, packet.now);
  handshake.own = proof_ack(handshake, packet.segment);
  table_.enter(handshake, Phase::complete, packet.now.monotonic);
  remember(handshake, packet.now);
  around_.actions.add(own_segment(handshake));
  accept_changed(packet, ruling_of(decision), handshake.remote->number);
}

/// A reset always passes. If it carries a valid REFUSAL of the server, that reason is reported.
void Connections::take_refusal(const Packet& packet) {
  Handshake* handshake = table_.find(packet.key(Role::client), packet.now.monotonic);
  const auto token = wire::read_token(wire::Message::refusal, packet.segment.payload());
  const bool answers = handshake != nullptr && handshake->phase == Phase::asked &&
                       packet.segment.acknowledgement() == handshake->sequence + 1;
  if (answers) {
    forget_request(handshake);
  }
  if (answers && token && packet.segment.is_whole()) {
    std::array<std::uint8_t, wire::kReplyStart> text{};
    const bool holds = open_refusal(*handshake, *token, text, around_, packet.now);
    const auto flow = holds ? translation(packet, handshake->key) : std::nullopt;
    if (holds && !flow) {
      return;
    }
    auto why = holds ? why_refused(*handshake, text, *flow, around_) : std::nullopt;
    if (why) {
      Event report = event(packet, Role::client, handshake);
      report.detail = std::move(*why);
      rulings_.report_refused(std::move(report), Reason::denied_by_peer);
      table_.enter(*handshake, Phase::refused, packet.now.monotonic);
    }
  }
  return wire::strip(packet.segment, changed_) ? accept_changed(packet, abi::Ruling::pass)
                                               : accept(packet, abi::Ruling::pass);
}

void Connections::refuse_client(const Packet& packet, Handshake& handshake, Reason reason) {
  return refuse_client(packet, handshake, reason, event(packet, Role::client, &handshake));
}

/// Turns the SYN-ACK into a reset, so that the client's connect() fails at once. The server's next
/// SYN-ACK is answered with a reset as well.
void Connections::refuse_client(const Packet& packet, Handshake& handshake, Reason reason,
                                Event&& report) {
  const bool passes = rulings_.audits();
  rulings_.report_refused(std::move(report), reason);
  table_.enter(handshake, passes ? Phase::open : Phase::refused, packet.now.monotonic);
  if (passes) {
    return wire::strip(packet.segment, changed_) ? accept_changed(packet, abi::Ruling::audit)
                                                 : accept(packet, abi::Ruling::audit);
  }
  if (rulings_.policy().refuse == policy::Refuse::drop) {
    return discard(packet);
  }
  wire::write_reset(packet.segment, changed_);
  return accept_changed(packet, abi::Ruling::pass);
}

}  // namespace trireme::handshake
