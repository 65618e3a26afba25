// The client's part of a handshake: HELLO with its SYN, REPLY with the SYN-ACK, PROOF.
#include <algorithm>

#include "engine_state.hpp"

namespace trireme::handshake {

using wire::CredentialType;
using wire::Segment;
using wire::Token;

namespace {

constexpr policy::Number kHost = 1;  // a process that is no workload

/// What PROOF will be made of.
void remember_syn(Handshake& handshake, const PacketFacts& facts, const Segment& syn) {
  handshake.sequence = syn.sequence();
  handshake.mark = facts.mark;
  handshake.device = facts.out_device;
  handshake.translated = (facts.priority & kTranslated) != 0;
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

Nonce Engine::State::fresh_nonce(bool& drawn) {
  Nonce nonce{};
  drawn = random_.fill(nonce);
  return nonce;
}

Answer Engine::State::ask(const Packet& packet) {
  const FlowKey key = packet.key(Role::client);
  Handshake* known = table.find(key, packet.now.monotonic);
  if (packet.number() == kHost) {
    // The ports of a workload's flow are in use by a process that is none: its packets go on as
    // they are, and need no verifier from here on.
    if (datagrams_.port != nullptr) {
      datagrams_.port->change(packet.facts.point, kTcp, packet.ends, FlowChange::release);
    }
    Handshake& handshake = table.make(key, Owner::workload(kHost), packet.now.monotonic);
    handshake.sequence = packet.segment.sequence();
    table.enter(handshake, Phase::open, packet.now.monotonic);
    return accept(Ruling::pass);
  }
  if (is_finishing) {
    return leave_to_next();
  }
  const auto local = locals.find(packet.number());
  if (local == locals.end()) {
    Event told = event(packet, Role::client, nullptr);
    told.local = packet.number();
    return refuse(packet, Reason::unknown_workload, std::move(told));
  }
  // A repeated SYN says the same, whatever has become of our trust, and though its REPLY is on its
  // way up already: the server has answered this HELLO and no other.
  const bool again = known != nullptr &&
                     (known->phase == Phase::asked || known->phase == Phase::complete) &&
                     known->sequence == packet.segment.sequence() && known->local == local->second;
  const auto offered = peers.trust()->offered();
  const bool elsewhere = is_peer(packet.ends.destination);
  Event told = event(packet, Role::client, nullptr);
  told.local = packet.number();
  if (elsewhere && !offered) {
    return refuse(packet, Reason::no_credential, std::move(told));
  }
  if (elsewhere && !peers.trust()->is_current(packet.now.wall)) {
    return refuse(packet, Reason::own_expired, std::move(told));
  }
  if (elsewhere && !peers.trust()->constraints().permit(local->second->labels)) {
    told.detail = "this host's own certificate";
    return refuse(packet, Reason::label_constraint, std::move(told));
  }
  if (packet.segment.is_signed()) {
    return refuse(packet, Reason::signed_segments, std::move(told));
  }
  Handshake& handshake =
      again ? *known : table.make(key, Owner::workload(packet.number()), packet.now.monotonic);
  if (!again) {
    bool drawn = false;
    handshake.client_nonce = fresh_nonce(drawn);
    if (!drawn) {
      table.remove(handshake);
      return drop(Reason::trust_failed);
    }
    handshake.trust = peers.trust();
    handshake.type = elsewhere ? *offered : CredentialType::local;
    handshake.local = local->second;
    remember_syn(handshake, packet.facts, packet.segment);
    handshake.hello = hello_transcript({handshake.type, 0}, handshake.client_nonce,
                                       handshake.trust->hash(handshake.type), local->second->hash);
  }
  const Bytes labels(reinterpret_cast<const std::uint8_t*>(local->second->encoded.data()),
                     local->second->encoded.size());
  const Token hello{.message = wire::Message::hello,
                    .type = handshake.type,
                    .flags = 0,
                    .nonce = handshake.client_nonce,
                    .credential = handshake.trust->credential(handshake.type),
                    .labels = labels,
                    .tag = {}};
  const std::size_t size = wire::write_token(hello, token_);
  if (size == 0 || !wire::attach(packet.segment, std::span(token_).first(size), changed_)) {
    told.detail = "the token takes " +
                  std::to_string(wire::hello_size(hello.credential.size(), labels.size())) +
                  " bytes, " + std::to_string(labels.size()) +
                  " of them labels; there is room for " +
                  std::to_string(wire::token_room(packet.segment));
    table.remove(handshake);
    return refuse(packet, Reason::token_too_large, std::move(told));
  }
  statistics.hellos++;
  return accept_changed(Ruling::pass);
}

Answer Engine::State::take_reply(const Packet& packet) {
  Handshake* handshake = table.find(packet.key(Role::client), packet.now.monotonic);
  if (handshake == nullptr) {
    return refuse_unknown(packet, Role::client);
  }
  if (handshake->phase == Phase::open) {
    return accept(Ruling::pass);
  }
  if (handshake->phase == Phase::refused) {
    return turn_away(packet);  // told already
  }
  if (packet.segment.acknowledgement() != handshake->sequence + 1) {
    return drop(Reason::conflict);
  }
  if (handshake->phase == Phase::complete) {
    // PROOF was lost: the server asks again. Its SYN-ACK is nothing new to the client.
    Answer answer;
    answer.drop = true;
    answer.own = own_segment(*handshake);
    return answer;
  }
  if (!is_here(*handshake)) {
    return refuse_client(packet, *handshake, Reason::unknown_workload,
                         event(packet, Role::client, handshake));
  }
  const auto token = wire::read_token(wire::Message::reply, packet.segment.payload());
  if (!token && token.error() == wire::BadToken::no_token) {
    return take_no_reply(packet, *handshake);
  }
  if (!token || !packet.segment.is_whole()) {
    return refuse_client(packet, *handshake,
                         token ? Reason::malformed_token : reason_of(token.error()),
                         event(packet, Role::client, handshake));
  }
  return check_reply(packet, *handshake, *token);
}

Answer Engine::State::take_no_reply(const Packet& packet, Handshake& handshake) {
  const policy::Decision decision = judge.unlabelled(
      *handshake.local, handshake.key.point, handshake.key.remote, handshake.key.remote_port);
  Event told = event(packet, Role::client, &handshake);
  say(told, decision);
  if (decision.verdict == policy::Verdict::deny) {
    return refuse_client(packet, handshake, Reason::no_proof, std::move(told));
  }
  const bool audited = decision.verdict == policy::Verdict::audit;
  if (audited || decision.log) {
    told.verdict = decision.verdict;
    told.reason = audited ? Reason::no_proof : Reason::none;
    tell(std::move(told));
  }
  statistics.unproved++;
  handshake.is_unlabelled = true;
  table.enter(handshake, Phase::open, packet.now.monotonic);
  return accept(audited ? Ruling::audit : Ruling::authorise);
}

Answer Engine::State::check_reply(const Packet& packet, Handshake& handshake, const Token& token) {
  const auto doubt = [&](Reason reason) {
    return refuse_client(packet, handshake, reason, event(packet, Role::client, &handshake));
  };
  if (token.type != handshake.type) {
    return doubt(Reason::unknown_type);
  }
  const auto known = peers.find(token.type, token.credential, packet.remote(), budget, packet.now);
  if (!known) {
    return known.error() == Reason::busy ? drop(Reason::busy) : doubt(known.error());
  }
  KnownPeer& peer = **known;
  const auto keys = peers.client_keys(handshake.trust, handshake.type, peer, packet.now);
  return keys ? finish_reply(packet, handshake, token, peer, **keys) : doubt(keys.error());
}

Answer Engine::State::finish_reply(const Packet& packet, Handshake& handshake, const Token& token,
                                   KnownPeer& peer, PairKeys& keys) {
  std::copy(token.nonce.begin(), token.nonce.end(), handshake.server_nonce.begin());
  const ReplyContext context{
      {token.type, token.flags}, handshake.hello, handshake.server_nonce, peer.peer->hash};
  const auto labels = std::span(labels_).first(token.labels.size());
  if (!open_reply(aead_, keys.reply_key(handshake.hello, handshake.server_nonce), context,
                  token.labels, token.tag, labels)) {
    // Perhaps not the server's word at all: its own may still come.
    Event told = event(packet, Role::client, &handshake);
    told.reason = Reason::forged_reply;
    tell(std::move(told));
    return drop(Reason::forged_reply);
  }
  Reason reason = Reason::none;
  auto remote = peer.identity(labels, reason);
  if (remote == nullptr) {
    return refuse_client(packet, handshake, reason, event(packet, Role::client, &handshake));
  }
  if (remote->number == 0) {
    remote = peer.enter(book_, *remote);
    if (remote == nullptr) {
      return refuse_client(packet, handshake, Reason::crowded,
                           event(packet, Role::client, &handshake));
    }
  }
  handshake.remote = std::move(remote);
  handshake.peer = peer.peer;
  const policy::Decision decision =
      judge.labelled(*handshake.local, *handshake.remote, true, handshake.key.remote_port);
  if (decision.verdict == policy::Verdict::deny) {
    Event told = event(packet, Role::client, &handshake);
    say(told, decision);
    return refuse_client(packet, handshake, Reason::policy, std::move(told));
  }
  handshake.proof = keys.proof(reply_transcript(context, token.labels, token.tag));
  return prove(packet, handshake, decision);
}

Answer Engine::State::prove(const Packet& packet, Handshake& handshake,
                            const policy::Decision& decision) {
  if (!wire::strip(packet.segment, changed_)) {
    return drop(Reason::malformed_packet);
  }
  report(packet, handshake, decision);
  handshake.own = proof_ack(handshake, packet.segment);
  table.enter(handshake, Phase::complete, packet.now.monotonic);
  statistics.authorised++;
  Answer answer =
      accept_changed(decision.verdict == policy::Verdict::audit ? Ruling::audit : Ruling::authorise,
                     handshake.remote->number);
  answer.own = own_segment(handshake);
  return answer;
}

/// The client hears of it at once: its SYN-ACK becomes a reset. The server's next one is answered
/// with a reset as well.
Answer Engine::State::refuse_client(const Packet& packet, Handshake& handshake, Reason reason,
                                    Event&& told) {
  const bool passes = audits();
  statistics.refused[static_cast<std::size_t>(reason)]++;
  told.reason = reason;
  told.verdict = passes ? policy::Verdict::audit : policy::Verdict::deny;
  tell(std::move(told));
  table.enter(handshake, passes ? Phase::open : Phase::refused, packet.now.monotonic);
  if (passes) {
    return wire::strip(packet.segment, changed_) ? accept_changed(Ruling::audit)
                                                 : accept(Ruling::audit);
  }
  if (judge.policy().refuse == policy::Refuse::drop) {
    Answer answer;
    answer.drop = true;
    return answer;
  }
  wire::write_reset(packet.segment, changed_);
  return accept_changed(Ruling::pass);
}

}  // namespace trireme::handshake
