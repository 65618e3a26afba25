#include "trireme/handshake/engine.hpp"

#include <algorithm>
#include <cstring>

#include "engine_state.hpp"

namespace trireme::handshake {

using wire::TcpFlag;

Engine::State::State(std::size_t capacity, std::uint64_t seed, IdentityBook& book, Proved& proved,
                     credentials::Random random)
    : budget(capacity / 8, seed),
      table(capacity, seed, budget),
      book_(book),
      random_(std::move(random)),
      around_{statistics, peers, budget, networks, translated, near,    policy,
              locals,     book_, proved, random_,  aead_,      on_event},
      rulings_(kTcp, around_),
      early_(seed),
      datagrams_(capacity, seed, around_) {
  table.on_over = [this](const Handshake& handshake) { report_death(handshake); };
}

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
  rulings_.count(reason);
  return leave_to_next();
}

Answer Engine::State::leave_to_next() {
  Answer answer;
  answer.drop = true;
  return answer;
}

Answer Engine::State::refuse(const Packet& packet, Reason reason, Event told) {
  rulings_.refuse(std::move(told), reason);
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
  const Ruling ruling = rulings_.audits() ? Ruling::audit : Ruling::refuse;
  if (!has_token) {
    return accept(ruling);
  }
  return wire::strip(packet.segment, changed_) ? accept_changed(ruling)
                                               : drop(Reason::malformed_packet);
}

Event Engine::State::event(const Packet& packet, Role role, const Handshake* handshake) const {
  return rulings_.event(packet.key(role), handshake);
}

Answer Engine::State::rejudge(const Packet& packet, Handshake& handshake) {
  const Judgement judgement = rulings_.of_proof(handshake, packet.now);
  if (judgement.reason == Reason::busy) {
    return drop(Reason::busy);  // TCP repeats it
  }
  if (judgement.reason == Reason::none) {
    return accept(ruling_of(judgement.decision), handshake.remote->number);
  }
  rulings_.refuse(handshake, judgement);
  if (!rulings_.audits()) {
    around_.proved.connections.remove(handshake.key);
  }
  table.remove(handshake);
  return turn_away(packet);
}

Answer Engine::State::rejudge_open(const Packet& packet, Handshake& handshake) {
  if (handshake.local == nullptr) {
    return accept(Ruling::pass);
  }
  if (const auto ruling = rulings_.of_open(handshake)) {
    return accept(*ruling);
  }
  rulings_.refuse(handshake, {.reason = Reason::no_proof, .decision = {}});
  table.remove(handshake);
  return turn_away(packet);
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
    case Bounded::proved_connections:
      return "proved_connections";
    case Bounded::proved_datagrams:
      return "proved_datagrams";
    case Bounded::requests:
      return "requests";
    case Bounded::first_datagrams:
      return "first_datagrams";
  }
  return "unknown";
}

Result<std::unique_ptr<Engine>> Engine::create(std::size_t capacity, IdentityBook& book,
                                               Proved& proved) {
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
      new Engine(std::make_unique<State>(capacity, seed, book, proved, std::move(*random))));
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
  std::copy_n(policy->digest.begin(), state_->policy.size(), state_->policy.begin());
  state_->datagrams_.set_policy(policy);
  state_->rulings_.set_policy(std::move(policy));
}

void Engine::set_trust(std::shared_ptr<const credentials::Trust> trust) {
  state_->peers.set_trust(std::move(trust));
}

void Engine::set_peers(std::vector<policy::Prefix> peers) {
  state_->networks = std::move(peers);
}

void Engine::set_near(std::vector<policy::Prefix> networks) {
  state_->near = std::move(networks);
}

void Engine::set_translated(std::vector<policy::Prefix> networks) {
  state_->translated = std::move(networks);
}

void Engine::set_named(const NamedPeers* named) {
  state_->rulings_.set_named(named);
  state_->datagrams_.set_named(named);
}

void Engine::add_local(std::shared_ptr<const LocalIdentity> identity, PointId point) {
  state_->locals.add(std::move(identity), point);
}

void Engine::enter(PointId point, policy::Number number) {
  state_->locals.enter(point, number);
}

void Engine::leave(PointId point, policy::Number number) {
  state_->locals.leave(point, number);
}

void Engine::remove_local(policy::Number number) {
  state_->locals.remove(number);
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

void Engine::send_reply() {
  state_->datagrams_.send_reply();
}

void Engine::tick(const Now& now) {
  state_->tick(now);
  state_->datagrams_.tick(now);
  count();
}

std::optional<std::chrono::milliseconds> Engine::next_tick() const {
  std::optional<std::chrono::milliseconds> next;
  for (const auto& due :
       {state_->early_.next_due(), state_->datagrams_.next_due(), state_->table.next_due()}) {
    next = next && due ? std::min(*next, *due) : (next ? next : due);
  }
  return next;
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
