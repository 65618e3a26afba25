#include "trireme/handshake/engine.hpp"

#include <algorithm>
#include <cstring>

#include "engine_state.hpp"
#include "trireme/policy/explain.hpp"

namespace trireme::handshake {

using wire::TcpFlag;

Engine::State::State(std::size_t capacity, std::uint64_t seed, IdentityBook& book,
                     credentials::Random random)
    : budget(capacity / 8, seed),
      table(capacity, seed, budget),
      book_(book),
      random_(std::move(random)),
      early_(seed),
      datagrams_(capacity, seed,
                 {statistics, peers, budget, networks, locals, book_, random_, aead_, on_event}) {}

FlowKey Engine::State::Packet::key(Role role) const {
  return facts.outgoing ? FlowKey{ends.source,           ends.destination, ends.source_port,
                                  ends.destination_port, facts.point,      role}
                        : FlowKey{ends.destination, ends.source, ends.destination_port,
                                  ends.source_port, facts.point, role};
}

/// Every packet of the token path begins here.
Answer Engine::State::handle(const PacketFacts& facts, const wire::Segment& segment,
                             const Now& now) {
  table.expire(now.monotonic);
  const Packet packet{facts, segment, now, segment.ends()};
  const unsigned flags = segment.flags() & (TcpFlag::kSyn | TcpFlag::kAck);
  if (flags == TcpFlag::kSyn) {
    return facts.outgoing ? ask(packet) : take_hello(packet);
  }
  if (flags == (TcpFlag::kSyn | TcpFlag::kAck)) {
    return facts.outgoing ? reply(packet) : take_reply(packet);
  }
  return facts.outgoing ? segment_out(packet) : segment_in(packet);
}

Answer Engine::State::malformed(wire::Malformed /*what*/) {
  return drop(Reason::malformed_packet);
}

Answer Engine::State::accept(Ruling ruling, policy::Number remote) {
  Answer answer;
  answer.priority = static_cast<std::uint32_t>(ruling) | remote;
  return answer;
}

Answer Engine::State::accept_changed(Ruling ruling, policy::Number remote) {
  Answer answer = accept(ruling, remote);
  answer.changed = &changed_;
  return answer;
}

Answer Engine::State::drop(Reason reason) {
  statistics.refused[static_cast<std::size_t>(reason)]++;
  Answer answer;
  answer.drop = true;
  return answer;
}

Answer Engine::State::leave_to_next() {
  Answer answer;
  answer.drop = true;
  return answer;
}

Answer Engine::State::refuse(const Packet& packet, Reason reason, Event told) {
  statistics.refused[static_cast<std::size_t>(reason)]++;
  told.reason = reason;
  told.verdict = audits() ? policy::Verdict::audit : policy::Verdict::deny;
  tell(std::move(told));
  return turn_away(packet);
}

Answer Engine::State::refuse_unknown(const Packet& packet, Role role) {
  return table.may_have_evicted(packet.now.monotonic)
             ? drop(Reason::crowded)
             : refuse(packet, Reason::unknown_handshake, event(packet, role, nullptr));
}

Answer Engine::State::turn_away(const Packet& packet) {
  // A token never reaches an application, and a reset must acknowledge what the sender's TCP has
  // sent: nothing but the SYN.
  const bool has_token =
      packet.segment.payload_size() > 0 && (packet.segment.flags() & TcpFlag::kSyn) != 0;
  const Ruling ruling = audits() ? Ruling::audit : Ruling::refuse;
  if (!has_token) {
    return accept(ruling);
  }
  return wire::strip(packet.segment, changed_) ? accept_changed(ruling)
                                               : drop(Reason::malformed_packet);
}

Event Engine::State::event(const Packet& packet, Role role, const Handshake* handshake) const {
  Event told;
  const FlowKey key = packet.key(role);
  told.local_is_client = role == Role::client;
  told.ends = told.local_is_client
                  ? wire::Ends{key.local, key.remote, key.local_port, key.remote_port}
                  : wire::Ends{key.remote, key.local, key.remote_port, key.local_port};
  if (handshake != nullptr && handshake->local) {
    told.local = handshake->local->number;
    told.self = handshake->local;
    told.remote = handshake->remote;
  }
  return told;
}

void say(Event& told, const policy::Decision& decision) {
  told.detail = policy::sentence(decision.reason);
  told.rule = decision.rule != nullptr ? decision.rule->text() : "";
}

void Engine::State::tell(Event&& told) {
  if (on_event) {
    on_event(std::move(told));
  }
}

bool Engine::State::is_peer(const policy::Address& address) const {
  return contains(networks, address);
}

bool Engine::State::is_here(const Handshake& handshake) const {
  const auto local = locals.find(handshake.local->number);
  return local != locals.end() && local->second == handshake.local;
}

Reason Engine::State::believe(const Packet& packet, const Handshake& handshake) {
  if (!is_here(handshake)) {
    return Reason::unknown_workload;
  }
  const credentials::Peer& peer = *handshake.peer;
  if (handshake.trust == peers.trust()) {
    return packet.now.wall <= peer.not_after ? Reason::none : Reason::expired;
  }
  // The trust has changed since: so may have what this credential is worth.
  const auto known = peers.find(peer.type, peer.credential, packet.remote(), budget, packet.now);
  if (!known) {
    return known.error();
  }
  return (*known)->peer->constraints.permit(handshake.remote->labels) ? Reason::none
                                                                      : Reason::label_constraint;
}

Answer Engine::State::rejudge(const Packet& packet, Handshake& handshake) {
  const bool is_client = handshake.key.role == Role::client;
  const Reason doubt = believe(packet, handshake);
  if (doubt == Reason::busy) {
    return drop(Reason::busy);  // TCP repeats it
  }
  const policy::Decision decision =
      judge.labelled(*handshake.local, *handshake.remote, is_client,
                     is_client ? handshake.key.remote_port : handshake.key.local_port);
  if (doubt == Reason::none && decision.verdict != policy::Verdict::deny) {
    return accept(decision.verdict == policy::Verdict::allow ? Ruling::authorise : Ruling::audit,
                  handshake.remote->number);
  }
  Event told = event(packet, handshake.key.role, &handshake);
  if (doubt == Reason::none) {
    say(told, decision);
  }
  table.remove(handshake);
  return refuse(packet, doubt == Reason::none ? Reason::policy : doubt, std::move(told));
}

Answer Engine::State::rejudge_open(const Packet& packet, Handshake& handshake) {
  if (handshake.local == nullptr) {
    return accept(Ruling::pass);
  }
  if (audits()) {
    return accept(Ruling::audit);
  }
  if (handshake.is_unlabelled && is_here(handshake)) {
    const policy::Decision decision = judge.unlabelled(
        *handshake.local, handshake.key.point, handshake.key.remote, handshake.key.remote_port);
    if (decision.verdict != policy::Verdict::deny) {
      return accept(decision.verdict == policy::Verdict::allow ? Ruling::authorise : Ruling::audit);
    }
  }
  Event told = event(packet, handshake.key.role, &handshake);
  table.remove(handshake);
  return refuse(packet, Reason::no_proof, std::move(told));
}

const char* text(Bounded what) {
  switch (what) {
    case Bounded::handshakes:
      return "handshakes";
    case Bounded::exchanges:
      return "exchanges";
    case Bounded::held_datagrams:
      return "held_datagrams";
    case Bounded::held_segments:
      return "held_segments";
  }
  return "unknown";
}

Result<std::unique_ptr<Engine>> Engine::create(std::size_t capacity, IdentityBook& book) {
  auto random = credentials::Random::open();
  if (!random) {
    return tl::unexpected(random.error());
  }
  std::array<std::uint8_t, 8> bytes{};
  if (!random->fill(bytes)) {
    return fail("the random number generator failed");
  }
  std::uint64_t seed = 0;
  std::memcpy(&seed, bytes.data(), sizeof seed);
  return std::unique_ptr<Engine>(
      new Engine(std::make_unique<State>(capacity, seed, book, std::move(*random))));
}

Engine::Engine(std::unique_ptr<State> state) : state_(std::move(state)) {
  state_->on_event = [this](Event&& event) {
    if (on_event) {
      on_event(std::move(event));
    }
  };
}

Engine::~Engine() = default;

void Engine::set_policy(std::shared_ptr<const policy::Policy> policy) {
  state_->datagrams_.set_policy(policy);
  state_->judge.set_policy(std::move(policy));
}

void Engine::set_trust(std::shared_ptr<const credentials::Trust> trust) {
  state_->peers.set_trust(std::move(trust));
}

void Engine::set_peers(std::vector<policy::Prefix> peers) {
  state_->networks = std::move(peers);
}

void Engine::set_named(const NamedPeers* named) {
  state_->judge.set_named(named);
  state_->datagrams_.set_named(named);
}

void Engine::add_local(std::shared_ptr<const LocalIdentity> identity) {
  state_->locals[identity->number] = std::move(identity);
}

void Engine::remove_local(policy::Number number) {
  state_->locals.erase(number);
}

void Engine::forget_point(PointId point) {
  state_->table.forget_point(point);
  state_->datagrams_.forget_point(point);
}

Answer Engine::handle(const PacketFacts& facts, std::span<const std::uint8_t> bytes,
                      std::size_t length, const Now& now) {
  Answer answer;
  if (wire::is_datagram(bytes, length)) {
    const auto datagram = wire::Datagram::parse(bytes, length);
    answer = datagram ? state_->datagrams_.handle(facts, *datagram, now)
                      : state_->malformed(datagram.error());
  } else {
    const auto segment = wire::Segment::parse(bytes, length);
    answer = segment ? state_->handle(facts, *segment, now) : state_->malformed(segment.error());
  }
  count();
  return answer;
}

void Engine::tick(const Now& now) {
  state_->tick(now);
  state_->datagrams_.tick(now);
  count();
}

std::optional<std::chrono::milliseconds> Engine::next_tick() const {
  const auto early = state_->early_.next_due();
  const auto datagrams = state_->datagrams_.next_due();
  return early && datagrams ? std::min(*early, *datagrams) : (early ? early : datagrams);
}

void Engine::finish() {
  state_->is_finishing = true;
}

bool Engine::awaits_proof(std::chrono::milliseconds now) const {
  return state_->table.awaits_proof(now);
}

void Engine::set_port(Port* port) {
  state_->datagrams_.port = port;
}

void Engine::count() {
  state_->statistics.handshakes = state_->table.size() + state_->datagrams_.size();
  state_->statistics.evicted =
      state_->table.crowding().given_up + state_->datagrams_.crowding().given_up;
  state_->statistics.crowding = {state_->table.crowding(), state_->datagrams_.crowding(),
                                 state_->datagrams_.held_crowding(), state_->early_.crowding()};
}

const EngineStatistics& Engine::statistics() const {
  return state_->statistics;
}

}  // namespace trireme::handshake
