// SPDX-License-Identifier: Apache-2.0
// TCP segments other than SYN and SYN-ACK: PROOF, data that arrives before it, and segments of
// flows that are no longer authorized.
#include "tcp/connections.hpp"

namespace trireme::handshake {
namespace {

/// Interval between two requests for PROOF on one connection if there is no room to hold its data.
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

/// Handles data, acknowledgments and PROOF that arrive on a flow without authorization.
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

/// PROOF was lost or overtaken, which the client's TCP cannot know. Its data waits here, and the
/// server's SYN-ACK is sent again, which the client's verifier answers with PROOF.
void Connections::await_proof(const Packet& packet, Handshake& handshake) {
  rulings_.count(Reason::unproved_data);
  const bool is_answer = handshake.key.role == Role::server &&
                         packet.segment.acknowledgement() == handshake.own.sequence + 1;
  if (!is_answer) {  // a sender that has not seen the SYN-ACK must not trigger another one
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
    rulings_.report_forged(handshake, Reason::forged_proof);
    return drop(packet, Reason::forged_proof);  // the valid one may still arrive
  }
  if (!wire::strip_proof(packet.segment, changed_)) {
    return drop(packet, Reason::malformed_packet);
  }
  const Judgement judgement = rulings_.accept_proof(handshake, packet.now);
  if (judgement.reason == Reason::busy) {
    return drop(packet, Reason::busy);
  }
  if (judgement.reason != Reason::none) {
    rulings_.report_refused(handshake, judgement);
    table_.enter(handshake, Phase::refused, packet.now.monotonic);
    const Held& early = early_.take(handshake);
    for (const std::uint32_t id : early.all()) {
      drop_waiting(packet.facts.point, id);
    }
    return turn_away(packet);
  }
  table_.enter(handshake, Phase::complete, packet.now.monotonic);
  remember(handshake, packet.now);
  const abi::Ruling ruling = ruling_of(judgement.decision);
  accept_changed(packet, ruling, handshake.remote->number);
  const Held& early = early_.take(handshake);
  for (const std::uint32_t id : early.all()) {
    accept_waiting(packet.facts.point, id,
                   static_cast<std::uint32_t>(ruling) | handshake.remote->number);
  }
}

void Connections::report_death(const Handshake& handshake) {
  // Without a repetition, one side has refused or closed the connection: that is not a timeout.
  if (!handshake.is_repeated) {
    return;
  }
  if (handshake.key.role == Role::client && handshake.phase == Phase::asked) {
    rulings_.report_timeout(handshake, "HELLO was repeated, but no SYN-ACK came");
  } else if (handshake.key.role == Role::server && handshake.phase == Phase::answered) {
    rulings_.report_timeout(handshake, "REPLY was repeated, but no PROOF came");
  }
}

/// Handles an outgoing segment of a flow whose authorization was withdrawn, or never existed.
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

/// A flow whose destination was changed by NAT on OUTPUT is not remembered: its socket has another
/// address than its packets, and once conntrack forgets the mapping, nothing restores it.
void Connections::remember(const Handshake& handshake, const Now& now) {
  if (!handshake.translated) {
    const bool is_server = handshake.key.role == Role::server;
    around_.proved.connections.enter({.key = handshake.key,
                                      .local = handshake.local->number,
                                      .remote = handshake.remote->number,
                                      .client = is_server ? handshake.near_number : 0},
                                     now.monotonic);
  }
}

/// Conntrack has forgotten the flow, or the flow lost its authorization long after its handshake.
/// The proof from the beginning of the connection is valid as long as its TCP socket exists, and as
/// far as the policy and trust in force allow.
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

/// Decides on a stray for which nothing is proved: by its addresses, and only if TCP has the
/// connection. It is not known which side began the connection, so policy must allow one direction.
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
    return accept(packet, abi::Ruling::pass);  // TIME_WAIT or no socket: the kernel answers
  }
  // The ruleset sees no cgroup of a request socket, so a half-open request may belong to a
  // workload. Only PROOF on the flow of its SYN may complete it.
  if (packet.number() == abi::kHost) {
    return state == TcpState::half_open ? drop(packet, Reason::unknown_handshake)
                                        : accept(packet, abi::Ruling::pass);
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
  say(report, rulings_.of_unlabeled(*local, packet.key(guess)));
  for (const Role role : {Role::client, Role::server}) {
    const policy::Decision decision = rulings_.of_unlabeled(*local, packet.key(role));
    if (decision.verdict != policy::Verdict::deny) {
      return state == TcpState::open ? accept(packet, ruling_of(decision))
                                     : refuse(packet, Reason::unknown_handshake, std::move(report));
    }
  }
  return refuse(packet, Reason::policy, std::move(report));
}

}  // namespace trireme::handshake
