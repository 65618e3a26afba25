// SPDX-License-Identifier: Apache-2.0
// The handshakes of one thread: facts about a queued packet in, actions out. The engine does not
// use sockets, queues or files.
//
// handle() is the packet path. On the client's side, HELLO is added to the SYN, REPLY is verified
// on the SYN-ACK and answered with PROOF. On the server's side, policy decides on the SYN by the
// labels in HELLO, REPLY is added to the SYN-ACK, and the first segments wait for PROOF. HELLO
// alone never authorizes a flow.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "trireme/abi/abi.hpp"
#include "trireme/handshake/actions.hpp"
#include "trireme/handshake/facts.hpp"
#include "trireme/handshake/identities.hpp"
#include "trireme/handshake/named_peers.hpp"
#include "trireme/handshake/owner.hpp"
#include "trireme/handshake/reason.hpp"
#include "trireme/policy/evaluate.hpp"
#include "trireme/wire/segment.hpp"

namespace trireme::handshake {

struct Proved;

/// An event for the operator: a refusal, an allowed flow whose rule has `log = true`, or a sample.
struct Event {
  policy::Verdict verdict = policy::Verdict::deny;
  Reason reason = Reason::none;
  std::string detail;  // Reason::policy: why policy decided so; else what was wrong; may be empty
  std::string rule;    // Rule::text() of the rule that decided; empty if none did
  wire::Ends ends;     // the source is the client
  std::uint8_t protocol = 6;  // IANA number: TCP or UDP
  bool local_is_client = false;
  policy::Number local = 0;  // number of the local workload; 0: not known
  /// The identity of `local`, which may have ended since. Null: look `local` up in the registry.
  std::shared_ptr<const LocalIdentity> self;
  std::shared_ptr<const RemoteIdentity> remote;  // null: no labels, or labels that are not trusted
  policy::Number near = 0;  // the number of the other workload, if that is on this host too
  /// The event is not about a flow: the peer's host has a different policy, as `detail` says.
  bool is_other_policy = false;
  /// Not 0: the event is a sample, an allowed flow that no rule logs. Equal for flows of one kind:
  /// the same ends, protocol and port.
  std::uint64_t sample = 0;
};

/// Whose share of events it uses: the workload or the remote host that began the flow.
[[nodiscard]] Owner owner_of(const Event& event);

/// Bounded resources that are shared between owners.
enum class Bounded : std::uint8_t {
  // Of each thread:
  handshakes,      // TCP handshakes
  exchanges,       // UDP handshakes
  held_datagrams,  // datagrams that wait for an exchange
  held_segments,   // TCP segments that arrived before PROOF
  // Of all threads together, remembered longer than conntrack does:
  proved_connections,  // TCP
  proved_datagrams,    // UDP flows
  // Of all threads together, flows between two workloads of this host that are being set up:
  requests,         // TCP
  first_datagrams,  // UDP
};
inline constexpr std::size_t kBounded = 4;  // the first ones, which each thread has
/// "handshakes", "exchanges", "held_datagrams", "held_segments", "proved_connections",
/// "proved_datagrams", "requests", "first_datagrams".
[[nodiscard]] const char* text(Bounded what);

struct EngineStatistics {
  std::array<std::uint64_t, kReasons> refused{};
  std::uint64_t hellos = 0;         // sent
  std::uint64_t replies = 0;        // sent
  std::uint64_t authorized = 0;     // flows authorized by proof
  std::uint64_t unproved = 0;       // flows allowed to peers that offered no proof
  std::uint64_t verifications = 0;  // credentials verified with public-key work
  std::uint64_t remembered = 0;     // credentials found in the cache instead
  std::uint64_t peers = 0;          // credentials in the cache now, including refused ones
  std::uint64_t evicted = 0;        // handshakes removed to make room for newer ones
  std::uint64_t handshakes = 0;     // in the tables now
  std::array<Crowding, kBounded> crowding{};
};

class Engine {
 public:
  /// `capacity` is the largest number of handshakes remembered, for TCP and UDP each. `book` and
  /// `proved` must outlive the engine. Error: the random number generator failed.
  [[nodiscard]] static Result<std::unique_ptr<Engine>> create(std::size_t capacity,
                                                              IdentityBook& book, Proved& proved);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  void set_policy(std::shared_ptr<const policy::Policy> policy);
  void set_trust(std::shared_ptr<const credentials::Trust> trust);
  /// [host] peers. Other destinations belong to this daemon's own enforcement points.
  void set_peers(std::vector<policy::Prefix> peers);
  /// Addresses of this host, and networks of its containers that do not overlap with [host] peers.
  /// What answers there is a workload of this daemon, which MEET finds, or is unlabeled.
  void set_near(std::vector<policy::Prefix> networks);
  /// [host] nat: addresses for which NAT by a third machine is expected.
  void set_host_nat(std::vector<policy::Prefix> networks);
  /// DNS names of peers without labels. `named` must outlive the engine.
  void set_named(const NamedPeers* named);
  /// Adds a workload of this host at an enforcement point. A packet with the workload's number is
  /// accepted only from the points that it was added to, because root in a container's network
  /// namespace can queue packets with any number.
  void add_local(std::shared_ptr<const LocalIdentity> identity, PointId point = kHome);
  /// Adds or removes one more cgroup of the workload at `point`. Calls are counted.
  void enter(PointId point, policy::Number number);
  void leave(PointId point, policy::Number number);
  void remove_local(policy::Number number);
  /// Removes the handshakes of an enforcement point that no longer exists.
  void forget_point(PointId point);

  /// `bytes` is the part of the packet that the queue has copied, from the IP header on; `length`
  /// is the size of the whole packet in bytes. The result, and all that it points to, is valid
  /// until the next call.
  [[nodiscard]] const Actions& handle(const PacketFacts& facts, std::span<const std::uint8_t> bytes,
                                      std::size_t length, const Now& now);
  /// Continues with the last packet after conntrack has seen it: see Actions::await().
  [[nodiscard]] const Actions& go_on(const std::optional<Translation>& translation);

  /// Repeats messages without an answer, and ends handshakes that timed out. Call it when
  /// next_tick() has passed, repeatedly until next_tick() is in the future.
  [[nodiscard]] const Actions& tick(const Now& now);
  [[nodiscard]] std::optional<std::chrono::milliseconds> next_tick() const;
  /// No new TCP handshake begins after this call. A SYN is dropped, and TCP repeats it to the next
  /// engine. Handshakes in progress continue.
  void finish();
  /// True if a TCP handshake sent REPLY, or MEET as a client, within the last 250 ms and is not
  /// complete. If the engine stops now, the answer arrives at the next engine, and the connection
  /// fails.
  [[nodiscard]] bool awaits_proof(std::chrono::milliseconds now) const;
  /// Called for each event that is no sample, from handle() and tick().
  std::function<void(Event&&)> on_event;
  /// Called for the samples that SampleLimiter admits, from handle() and tick().
  std::function<void(Event&&)> on_sample;

  [[nodiscard]] const EngineStatistics& statistics() const;

 private:
  class State;
  void count();
  explicit Engine(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace trireme::handshake
