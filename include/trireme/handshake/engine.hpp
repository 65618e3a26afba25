// SPDX-License-Identifier: Apache-2.0
// The handshakes of one thread: from each packet that a queue hands over to what becomes of it.
// Knows nothing of sockets, queues or files: facts in, actions out.
//
// handle() is the packet path. A client's SYN gets HELLO; its server's SYN-ACK is verified here and
// answered with PROOF. A server's SYN is judged by HELLO's labels, its SYN-ACK gets REPLY, and the
// first segments wait for PROOF. Nothing is authorised on HELLO alone.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "trireme/handshake/actions.hpp"
#include "trireme/handshake/codes.hpp"
#include "trireme/handshake/facts.hpp"
#include "trireme/handshake/identities.hpp"
#include "trireme/handshake/named_peers.hpp"
#include "trireme/handshake/owner.hpp"
#include "trireme/handshake/reason.hpp"
#include "trireme/policy/evaluate.hpp"
#include "trireme/wire/segment.hpp"

namespace trireme::handshake {

struct Proved;

/// Something worth telling an operator: a refusal, or an allowed flow whose rule is logged.
struct Event {
  policy::Verdict verdict = policy::Verdict::deny;
  Reason reason = Reason::none;
  std::string detail;  // policy: why, in a sentence; else what exactly was wrong; may be empty
  std::string rule;    // Rule::text() of the rule that decided, where one did
  wire::Ends ends;     // as the client sends
  std::uint8_t protocol = 6;  // IANA number: TCP or UDP
  bool local_is_client = false;
  policy::Number local = 0;  // 0: not known
  std::shared_ptr<const LocalIdentity>
      self;  // of `local`, which may have ended since; null: see the registry
  std::shared_ptr<const RemoteIdentity> remote;  // null: no labels, or none that are believed
  /// No flow: the peer's host decides by another policy than this one, and `detail` says so.
  bool is_other_policy = false;
};

/// What is bounded, and shared by owners.
enum class Bounded : std::uint8_t {
  handshakes,      // of TCP
  exchanges,       // handshakes of UDP
  held_datagrams,  // that wait for them
  held_segments,   // of TCP, ahead of PROOF
  // Of all threads together.
  // Remembered beyond what conntrack does:
  proved_connections,
  proved_datagrams,  // flows of UDP
  // Between two workloads of this host, while they begin:
  requests,         // for connections
  first_datagrams,  // flows of UDP
};
inline constexpr std::size_t kBounded = 4;  // of each thread
/// "handshakes", "exchanges", "held_datagrams", "held_segments", "proved_connections",
/// "proved_datagrams", "requests", "first_datagrams".
[[nodiscard]] const char* text(Bounded what);

struct EngineStatistics {
  std::array<std::uint64_t, kReasons> refused{};
  std::uint64_t hellos = 0;         // sent
  std::uint64_t replies = 0;        // sent
  std::uint64_t authorised = 0;     // flows, by proof
  std::uint64_t unproved = 0;       // flows allowed to peers that offered no proof
  std::uint64_t verifications = 0;  // of credentials: public-key work
  std::uint64_t remembered = 0;     // credentials met again that needed none
  std::uint64_t peers = 0;          // credentials remembered now, refused ones too
  std::uint64_t evicted = 0;        // handshakes given up for newer ones
  std::uint64_t handshakes = 0;     // in the table now
  std::array<Crowding, kBounded> crowding{};
};

class Engine {
 public:
  /// `capacity` bounds the handshakes remembered. Book and proved flows outlive the engine. Errors:
  /// no randomness.
  [[nodiscard]] static Result<std::unique_ptr<Engine>> create(std::size_t capacity,
                                                              IdentityBook& book, Proved& proved);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  void set_policy(std::shared_ptr<const policy::Policy> policy);
  void set_trust(std::shared_ptr<const credentials::Trust> trust);
  /// Where [host] peers are; destinations elsewhere are enforcement points of this daemon.
  void set_peers(std::vector<policy::Prefix> peers);
  /// Addresses of this host and of its containers: who answers there is an enforcement point of
  /// this daemon, or nobody that could prove anything.
  void set_near(std::vector<policy::Prefix> networks);
  /// Where address translation by a third machine is expected: [host] nat.
  void set_translated(std::vector<policy::Prefix> networks);
  /// Peers that have DNS names; outlive the engine.
  void set_named(const NamedPeers* named);
  /// A workload of this host, and where it is: root in a network namespace can queue packets with
  /// any number, and is believed in those of that namespace.
  void add_local(std::shared_ptr<const LocalIdentity> identity, PointId point = kHome);
  /// It is there as well, once more; and no longer.
  void enter(PointId point, policy::Number number);
  void leave(PointId point, policy::Number number);
  void remove_local(policy::Number number);
  /// Handshakes of an enforcement point that is gone.
  void forget_point(PointId point);

  /// `bytes` are the packet from its IP header on, as far as they were copied; `length` is all of
  /// it. What it returns, and all that this points to, is valid until the next call.
  [[nodiscard]] const Actions& handle(const PacketFacts& facts, std::span<const std::uint8_t> bytes,
                                      std::size_t length, const Now& now);
  /// The rest of what the packet at hand brings about, when conntrack knows what became of it: see
  /// Actions::await().
  [[nodiscard]] const Actions& go_on(const std::optional<Translation>& translation);

  /// Repeats what was not answered, and gives up what never was. To be called when next_tick() has
  /// come, and as long as it has.
  [[nodiscard]] const Actions& tick(const Now& now);
  [[nodiscard]] std::optional<std::chrono::milliseconds> next_tick() const;
  /// From here on no handshake of TCP begins: what would begin one is dropped, and TCP repeats it
  /// to the next engine. Those under way go on.
  void finish();
  /// Whether a server has asked lately for PROOF, and TCP for it is under way: a connection whose
  /// PROOF meets the next engine is lost.
  [[nodiscard]] bool awaits_proof(std::chrono::milliseconds now) const;
  /// Called for each event, from handle() and tick().
  std::function<void(Event&&)> on_event;

  [[nodiscard]] const EngineStatistics& statistics() const;

 private:
  class State;
  void count();
  explicit Engine(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace trireme::handshake
