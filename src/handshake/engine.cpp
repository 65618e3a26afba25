// SPDX-License-Identifier: Apache-2.0
#include "trireme/handshake/engine.hpp"

#include <algorithm>
#include <cstring>

#include "tcp/connections.hpp"
#include "trireme/wire/datagram.hpp"
#include "udp/datagrams.hpp"

namespace trireme::handshake {

class Engine::State {
 public:
  State(std::size_t capacity, std::uint64_t seed, IdentityBook& identities, Proved& proved_flows,
        credentials::Random source)
      : book(identities),
        proved(proved_flows),
        random(std::move(source)),
        budget(capacity / 8, seed),
        connections(capacity, seed, around),
        datagrams(capacity, seed, around) {}

  Actions actions;
  EngineStatistics statistics;
  PeerCache known_peers{statistics};
  std::vector<policy::Prefix> host_peers;  // [host] peers
  std::vector<policy::Prefix> host_nat;    // [host] nat
  std::vector<policy::Prefix> near;        // addresses of this host and of its containers
  wire::PolicyDigest policy{};             // digest of the policy in force, first 8 bytes
  Locals locals;
  Milliseconds now{};  // of the current call
  std::function<void(Event&&)> on_event;
  IdentityBook& book;
  Proved& proved;
  credentials::Random random;
  credentials::Aead aead;
  Budget budget;
  SampleLimiter samples;
  Surroundings around{actions, statistics, known_peers, budget, host_peers, host_nat,
                      near,    policy,     now,         locals, book,       proved,
                      random,  aead,       on_event,    samples};
  Connections connections;
  Datagrams datagrams;
};

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
    if (const auto& receiver = event.sample != 0 ? on_sample : on_event) {
      receiver(std::move(event));
    }
  };
}

Engine::~Engine() = default;

void Engine::set_policy(std::shared_ptr<const policy::Policy> policy) {
  std::copy_n(policy->digest.begin(), state_->policy.size(), state_->policy.begin());
  state_->datagrams.set_policy(policy);
  state_->connections.set_policy(std::move(policy));
}

void Engine::set_trust(std::shared_ptr<const credentials::Trust> trust) {
  state_->known_peers.set_trust(std::move(trust));
}

void Engine::set_peers(std::vector<policy::Prefix> peers) {
  state_->host_peers = std::move(peers);
}

void Engine::set_near(std::vector<policy::Prefix> networks) {
  state_->near = std::move(networks);
}

void Engine::set_host_nat(std::vector<policy::Prefix> networks) {
  state_->host_nat = std::move(networks);
}

void Engine::set_named(const NamedPeers* named) {
  state_->connections.set_named(named);
  state_->datagrams.set_named(named);
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
  state_->connections.forget_point(point);
  state_->datagrams.forget_point(point);
}

const Actions& Engine::handle(const PacketFacts& facts, std::span<const std::uint8_t> bytes,
                              std::size_t length, const Now& now) {
  Actions& actions = state_->actions;
  actions.clear();
  state_->now = now.monotonic;
  const auto malformed = [&] {
    state_->statistics.refused[static_cast<std::size_t>(Reason::malformed_packet)]++;
    actions.add(PacketVerdict{.point = facts.point, .id = facts.id, .drop = true});
  };
  if (wire::is_datagram(bytes, length)) {
    const auto datagram = wire::Datagram::parse(bytes, length);
    datagram ? state_->datagrams.handle(facts, *datagram, now) : malformed();
  } else {
    const auto segment = wire::Segment::parse(bytes, length);
    segment ? state_->connections.handle(facts, *segment, now) : malformed();
  }
  count();
  return actions;
}

const Actions& Engine::go_on(const std::optional<Translation>& translation) {
  state_->actions.clear();
  state_->datagrams.go_on(translation);
  count();
  return state_->actions;
}

const Actions& Engine::tick(const Now& now) {
  state_->actions.clear();
  state_->now = now.monotonic;
  state_->connections.tick(now);
  state_->datagrams.tick(now);
  count();
  return state_->actions;
}

std::optional<std::chrono::milliseconds> Engine::next_tick() const {
  const auto connections = state_->connections.next_due();
  const auto datagrams = state_->datagrams.next_due();
  return connections && datagrams ? std::min(*connections, *datagrams)
         : connections            ? connections
                                  : datagrams;
}

void Engine::finish() {
  state_->connections.finish();
}

bool Engine::awaits_proof(std::chrono::milliseconds now) const {
  return state_->connections.awaits_proof(now);
}

void Engine::count() {
  const Connections& connections = state_->connections;
  const Datagrams& datagrams = state_->datagrams;
  state_->statistics.handshakes = connections.size() + datagrams.size();
  state_->statistics.evicted = connections.crowding().given_up + datagrams.crowding().given_up;
  state_->statistics.crowding = {connections.crowding(), datagrams.crowding(),
                                 datagrams.held_crowding(), connections.held_crowding()};
}

const EngineStatistics& Engine::statistics() const {
  return state_->statistics;
}

}  // namespace trireme::handshake
