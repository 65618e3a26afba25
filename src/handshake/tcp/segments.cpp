// SPDX-License-Identifier: Apache-2.0
// What is neither SYN nor SYN-ACK: PROOF, data that come ahead of it, and segments of flows that
// have no authorisation any more.
#include "tcp/connections.hpp"

namespace trireme::handshake {
namespace {

/// Between two requests for PROOF on one connection whose data find no room to wait.
constexpr Milliseconds kAskAgain{100};

}  // namespace

OwnSegment Connections::own_segment(const Handshake& handshake) {
  OwnSegment own{.point = handshake.key.point,
                 .segment = handshake.own,
                 .proof = {},
                 .mark = handshake.mark,
                 .device = handshake.device,
                 .translated = handshake.translated};
  if (handshake.key.role == Role::client) {
    own.proof = handshake.proof;
  }
  return own;
}

/// Data, acknowledgements and PROOF that come on a flow without authorisation.
void Connections::segment_in(const Packet& packet) {
  if ((packet.segment.flags() & wire::TcpFlag::kRst) != 0) {
    return take_refusal(packet);
  }
  if (packet.is_stray()) {
    return resume(packet);
  }
  Handshake* handshake = table_.find(packet.key(Role::server), packet.now.monotonic);
  if (handshake == nullptr) {
    handshake = table_.find(packet.key(Role::client), packet.now.monotonic);
  }
  if (handshake == nullptr) {
    return resume(packet);
  }
  if (handshake->phase == Phase::refused ||
      (handshake->phase == Phase::asked && handshake->key.role == Role::server)) {
    return refuse(packet, Reason::unknown_handshake, event(packet, handshake->key.role, handshake));
  }
  if (handshake->phase == Phase::open) {
    return rejudge_open(packet, *handshake);
  }
  if (handshake->phase == Phase::complete) {
    return rejudge(packet, *handshake);
  }
  return packet.segment.proof() ? take_proof(packet, *handshake) : await_proof(packet, *handshake);
}

/// PROOF was lost, or overtaken, and the client's TCP does not know: its data wait, and the
/// server's SYN-ACK is sent again, which the client's verifier answers with PROOF.
void Connections::await_proof(const Packet& packet, Handshake& handshake) {
  rulings_.count(Reason::unproved_data);
  const bool is_answer = handshake.key.role == Role::server &&
                         packet.segment.acknowledgement() == handshake.own.sequence + 1;
  if (!is_answer) {  // who has not seen the SYN-ACK makes nobody send another
    return discard(packet);
  }
  const OwnSegment question = own_segment(handshake);
  const auto result = early_.hold(around_.actions, handshake, packet.facts.id, packet.segment,
                                  question, packet.now.monotonic);
  const bool may_ask = result == EarlyData::Result::no_room &&
                       handshake.asked_again + kAskAgain <= packet.now.monotonic;
  if (result == EarlyData::Result::begins || may_ask) {
    handshake.asked_again = packet.now.monotonic;
    around_.actions.add(question);
  }
  if (result == EarlyData::Result::repeats || result == EarlyData::Result::no_room) {
    discard(packet);
  }
}

void Connections::take_proof(const Packet& packet, Handshake& handshake) {
  if (handshake.key.role != Role::server || !proves(handshake, *packet.segment.proof())) {
    rulings_.forged(handshake, Reason::forged_proof);
    return drop(packet, Reason::forged_proof);  // the client's own may still come
  }
  if (!wire::strip_proof(packet.segment, changed_)) {
    return drop(packet, Reason::malformed_packet);
  }
  const Judgement judgement = rulings_.accept_proof(handshake, packet.now);
  if (judgement.reason == Reason::busy) {
    return drop(packet, Reason::busy);
  }
  if (judgement.reason != Reason::none) {
    rulings_.refuse(handshake, judgement);
    table_.enter(handshake, Phase::refused, packet.now.monotonic);
    const Held& early = early_.take(handshake);
    for (const std::uint32_t id : early.all()) {
      drop_waiting(packet.facts.point, id);
    }
    return turn_away(packet);
  }
  table_.enter(handshake, Phase::complete, packet.now.monotonic);
  remember(handshake, packet.now);
  const Ruling ruling = ruling_of(judgement.decision);
  accept_changed(packet, ruling, handshake.remote->number);
  const Held& early = early_.take(handshake);
  for (const std::uint32_t id : early.all()) {
    accept_waiting(packet.facts.point, id,
                   static_cast<std::uint32_t>(ruling) | handshake.remote->number);
  }
}

void Connections::report_death(const Handshake& handshake) {
  // Who refuses, or gives up, repeats nothing.
  if (!handshake.is_repeated) {
    return;
  }
  if (handshake.key.role == Role::client && handshake.phase == Phase::asked) {
    rulings_.died(handshake, "HELLO was sent again and again, and no SYN-ACK came");
  } else if (handshake.key.role == Role::server && handshake.phase == Phase::answered) {
    rulings_.died(handshake, "REPLY was sent again and again, and no PROOF came");
  }
}

/// What leaves on a flow whose authorisation was taken away, or that never had one.
void Connections::segment_out(const Packet& packet) {
  if (packet.is_stray()) {
    return resume(packet);
  }
  for (const Role role : {Role::client, Role::server}) {
    Handshake* handshake = table_.find(packet.key(role), packet.now.monotonic);
    if (handshake == nullptr) {
      continue;
    }
    if (handshake->phase == Phase::open) {
      return rejudge_open(packet, *handshake);
    }
    if (handshake->phase == Phase::complete) {
      return rejudge(packet, *handshake);
    }
  }
  return resume(packet);
}

std::optional<TcpSocket> Connections::tcp_socket(const Packet& packet) {
  if (!packet.facts.socket) {
    const wire::Ends& ends = packet.ends;
    const bool outgoing = packet.facts.outgoing;
    around_.actions.ask({.about = Question::About::socket,
                         .protocol = kTcp,
                         .point = packet.facts.point,
                         .ends = outgoing ? wire::Ends{ends.destination, ends.source,
                                                       ends.destination_port, ends.source_port}
                                          : ends,
                         .device = outgoing ? packet.facts.out_device : packet.facts.in_device});
  }
  return packet.facts.socket;
}

/// Where NAT on OUTPUT has changed the server's address its socket has another than packets have;
/// and what conntrack forgets of such a flow, nothing brings back.
void Connections::remember(const Handshake& handshake, const Now& now) {
  if (!handshake.translated) {
    around_.proved.connections.enter({.key = handshake.key,
                                      .local = handshake.local->number,
                                      .remote = handshake.remote->number,
                                      .client = handshake.near_client},
                                     now.monotonic);
  }
}

/// Conntrack has forgotten the flow, or it lost its authorisation long after its handshake. What
/// was proved when the connection began holds while TCP has it, as far as policy and trust in force
/// allow.
void Connections::resume(const Packet& packet) {
  for (const Role role : {Role::client, Role::server}) {
    const auto flow = around_.proved.connections.find(packet.key(role));
    if (!flow || !packet.may_be_of(flow->local)) {
      continue;
    }
    const auto socket = tcp_socket(packet);
    if (!socket) {
      return;
    }
    if (socket->state == TcpState::unknown) {
      return drop(packet, Reason::busy);  // TCP repeats it
    }
    const bool is_another = flow->socket != 0 && flow->socket != socket->cookie;
    if (socket->state != TcpState::open || is_another) {
      around_.proved.connections.remove(flow->key);
      break;
    }
    const auto local = around_.locals.find(flow->local);
    const auto remote = around_.book.find(flow->remote);
    Event report = event(packet, role, nullptr);
    report.local = flow->local;
    report.self = local;
    report.remote = remote;
    if (report.self == nullptr || remote == nullptr) {
      around_.proved.connections.remove(flow->key);
      return refuse(packet, remote == nullptr ? Reason::untrusted : Reason::unknown_workload,
                    std::move(report));
    }
    const policy::Decision decision = rulings_.of_pair(*local, *remote, flow->key);
    if (decision.verdict == policy::Verdict::deny) {
      if (!rulings_.audits()) {
        around_.proved.connections.remove(flow->key);
      }
      say(report, decision);
      return refuse(packet, Reason::policy, std::move(report));
    }
    return accept(packet, ruling_of(decision), remote->number);
  }
  return packet.is_stray() ? judge_stray(packet) : refuse_unknown(packet, Role::client);
}

/// Nothing is proved of it: judged by its addresses, as far as TCP has the connection. Which end
/// began that, nobody knows: either may have.
void Connections::judge_stray(const Packet& packet) {
  const auto socket = tcp_socket(packet);
  if (!socket) {
    return;
  }
  const TcpState state = socket->state;
  if (state == TcpState::unknown) {
    return drop(packet, Reason::busy);  // TCP repeats it
  }
  if (state == TcpState::none && !packet.facts.outgoing) {
    return accept(packet, Ruling::pass);  // for TIME_WAIT, or nobody: the kernel answers
  }
  // Of a workload's half-open request rules see no cgroup. PROOF alone completes it, on the flow of
  // its SYN.
  if (packet.number() == kHost) {
    return state == TcpState::half_open ? drop(packet, Reason::unknown_handshake)
                                        : accept(packet, Ruling::pass);
  }
  const FlowKey key = packet.key(Role::client);
  const Role guess = key.local_port > key.remote_port ? Role::client : Role::server;
  Event report = event(packet, guess, nullptr);
  report.local = packet.number();
  const auto local = around_.locals.find(packet.facts.point, packet.number());
  if (local == nullptr) {
    return refuse(packet, Reason::unknown_workload, std::move(report));
  }
  report.self = local;
  say(report, rulings_.of_unlabelled(*local, packet.key(guess)));
  for (const Role role : {Role::client, Role::server}) {
    const policy::Decision decision = rulings_.of_unlabelled(*local, packet.key(role));
    if (decision.verdict != policy::Verdict::deny) {
      return state == TcpState::open ? accept(packet, ruling_of(decision))
                                     : refuse(packet, Reason::unknown_handshake, std::move(report));
    }
  }
  return refuse(packet, Reason::policy, std::move(report));
}

}  // namespace trireme::handshake
