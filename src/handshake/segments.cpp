// What is neither SYN nor SYN-ACK: PROOF, data that come ahead of it, and segments of flows that
// have no authorisation any more.
#include "engine_state.hpp"

namespace trireme::handshake {
namespace {

/// Between two requests for PROOF on one connection whose data find no room to wait.
constexpr Milliseconds kAskAgain{100};

}  // namespace

OwnSegment Engine::State::own_segment(const Handshake& handshake) {
  OwnSegment own{.segment = handshake.own,
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
Answer Engine::State::segment_in(const Packet& packet) {
  if ((packet.segment.flags() & wire::TcpFlag::kRst) != 0) {
    return take_refusal(packet);
  }
  if (packet.is_stray()) {
    return resume(packet);
  }
  Handshake* handshake = table.find(packet.key(Role::server), packet.now.monotonic);
  if (handshake == nullptr) {
    handshake = table.find(packet.key(Role::client), packet.now.monotonic);
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
Answer Engine::State::await_proof(const Packet& packet, Handshake& handshake) {
  rulings_.count(Reason::unproved_data);
  const bool is_answer = handshake.key.role == Role::server &&
                         packet.segment.acknowledgement() == handshake.own.sequence + 1;
  Answer answer;
  if (!is_answer) {  // who has not seen the SYN-ACK makes nobody send another
    answer.drop = true;
    return answer;
  }
  const OwnSegment question = own_segment(handshake);
  const auto result = datagrams_.port == nullptr
                          ? EarlyData::Result::no_room
                          : early_.hold(*datagrams_.port, handshake, packet.facts.id,
                                        packet.segment, question, packet.now.monotonic);
  answer.hold = result == EarlyData::Result::begins || result == EarlyData::Result::waits;
  answer.drop = !answer.hold;
  const bool may_ask = result == EarlyData::Result::no_room &&
                       handshake.asked_again + kAskAgain <= packet.now.monotonic;
  if (result == EarlyData::Result::begins || may_ask) {
    handshake.asked_again = packet.now.monotonic;
    answer.own = question;
  }
  return answer;
}

Answer Engine::State::take_proof(const Packet& packet, Handshake& handshake) {
  if (handshake.key.role != Role::server || !proves(handshake, *packet.segment.proof())) {
    rulings_.forged(handshake, Reason::forged_proof);
    return drop(Reason::forged_proof);  // the client's own may still come
  }
  if (!wire::strip_proof(packet.segment, changed_)) {
    return drop(Reason::malformed_packet);
  }
  const Judgement judgement = rulings_.accept_proof(handshake, packet.now);
  if (judgement.reason == Reason::busy) {
    return drop(Reason::busy);
  }
  if (judgement.reason != Reason::none) {
    rulings_.refuse(handshake, judgement);
    table.enter(handshake, Phase::refused, packet.now.monotonic);
    drop_held(handshake.key.point, early_.take(handshake));
    return turn_away(packet);
  }
  table.enter(handshake, Phase::complete, packet.now.monotonic);
  remember(handshake, packet.now);
  Answer answer = accept_changed(ruling_of(judgement.decision), handshake.remote->number);
  const Held& early = early_.take(handshake);
  answer.behind = std::span(early.packets).first(early.count);
  return answer;
}

void Engine::State::drop_held(PointId point, const Held& held) {
  for (std::size_t i = 0; i < held.count; i++) {
    datagrams_.port->drop(point, held.packets.at(i));
  }
}

void Engine::State::report_death(const Handshake& handshake) {
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

void Engine::State::tick(const Now& now) {
  constexpr int kMost = 64;  // rounds: packets wait meanwhile
  for (int round = 0; round < kMost && table.expire(now.monotonic); round++) {
  }
  if (datagrams_.port != nullptr) {
    early_.tick(*datagrams_.port, now.monotonic);
  }
}

/// What leaves on a flow whose authorisation was taken away, or that never had one.
Answer Engine::State::segment_out(const Packet& packet) {
  if (packet.is_stray()) {
    return resume(packet);
  }
  for (const Role role : {Role::client, Role::server}) {
    Handshake* handshake = table.find(packet.key(role), packet.now.monotonic);
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

TcpSocket Engine::State::tcp_socket(const Packet& packet) {
  Port* port = datagrams_.port;
  const wire::Ends& ends = packet.ends;
  if (port == nullptr) {
    return {TcpState::unknown, 0};
  }
  return packet.facts.outgoing ? port->tcp_socket(packet.facts.point,
                                                  {ends.destination, ends.source,
                                                   ends.destination_port, ends.source_port},
                                                  packet.facts.out_device)
                               : port->tcp_socket(packet.facts.point, ends, packet.facts.in_device);
}

/// Where NAT on OUTPUT has changed the server's address its socket has another than packets have;
/// and what conntrack forgets of such a flow, nothing brings back.
void Engine::State::remember(const Handshake& handshake, const Now& now) {
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
Answer Engine::State::resume(const Packet& packet) {
  for (const Role role : {Role::client, Role::server}) {
    const auto flow = around_.proved.connections.find(packet.key(role));
    if (!flow || !packet.may_be_of(flow->local)) {
      continue;
    }
    const TcpSocket socket = tcp_socket(packet);
    if (socket.state == TcpState::unknown) {
      return drop(Reason::busy);  // TCP repeats it
    }
    const bool is_another = flow->socket != 0 && flow->socket != socket.cookie;
    if (socket.state != TcpState::open || is_another) {
      around_.proved.connections.remove(flow->key);
      break;
    }
    const auto local = locals.find(flow->local);
    const auto remote = book_.find(flow->remote);
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
    return accept(ruling_of(decision), remote->number);
  }
  return packet.is_stray() ? judge_stray(packet) : refuse_unknown(packet, Role::client);
}

/// Nothing is proved of it: judged by its addresses, as far as TCP has the connection. Which end
/// began that, nobody knows: either may have.
Answer Engine::State::judge_stray(const Packet& packet) {
  const TcpState state = tcp_socket(packet).state;
  if (state == TcpState::unknown) {
    return drop(Reason::busy);  // TCP repeats it
  }
  if (state == TcpState::none && !packet.facts.outgoing) {
    return accept(Ruling::pass);  // for TIME_WAIT, or nobody: the kernel answers
  }
  // Of a workload's half-open request rules see no cgroup. PROOF alone completes it, on the flow of
  // its SYN.
  if (packet.number() == kHost) {
    return state == TcpState::half_open ? drop(Reason::unknown_handshake) : accept(Ruling::pass);
  }
  const FlowKey key = packet.key(Role::client);
  const Role guess = key.local_port > key.remote_port ? Role::client : Role::server;
  Event report = event(packet, guess, nullptr);
  report.local = packet.number();
  const auto local = locals.find(packet.facts.point, packet.number());
  if (local == nullptr) {
    return refuse(packet, Reason::unknown_workload, std::move(report));
  }
  report.self = local;
  say(report, rulings_.of_unlabelled(*local, packet.key(guess)));
  for (const Role role : {Role::client, Role::server}) {
    const policy::Decision decision = rulings_.of_unlabelled(*local, packet.key(role));
    if (decision.verdict != policy::Verdict::deny) {
      return state == TcpState::open ? accept(ruling_of(decision))
                                     : refuse(packet, Reason::unknown_handshake, std::move(report));
    }
  }
  return refuse(packet, Reason::policy, std::move(report));
}

}  // namespace trireme::handshake
