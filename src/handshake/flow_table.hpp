// Handshakes under way, and those completed a moment ago: bounded, oldest given up first.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "budget.hpp"
#include "trireme/handshake/engine.hpp"
#include "trireme/handshake/keys.hpp"

namespace trireme::handshake {

using Milliseconds = std::chrono::milliseconds;

enum class Role : std::uint8_t { client, server };

/// A flow as this enforcement point sees it, in one of its two roles.
struct FlowKey {
  policy::Address local;
  policy::Address remote;
  std::uint16_t local_port = 0;
  std::uint16_t remote_port = 0;
  PointId point = 0;
  Role role = Role::client;
  bool operator==(const FlowKey&) const = default;
};
[[nodiscard]] std::uint64_t hash(const FlowKey& key, std::uint64_t seed);

enum class Phase : std::uint8_t {
  asked,     // client: HELLO is sent; server: HELLO is accepted
  answered,  // server: REPLY is sent
  complete,  // authorised by proof
  open,      // nothing is exchanged: no workload's after all, a peer without proof that policy allows, or audit mode
  refused,
};

struct Handshake {
  FlowKey key;
  Phase phase = Phase::asked;
  std::uint32_t sequence = 0;                       // of the client's SYN
  Milliseconds since{};                             // the last change of phase
  std::shared_ptr<const credentials::Trust> trust;  // whose credential of ours is in use
  wire::CredentialType type = wire::CredentialType::local;
  std::shared_ptr<const LocalIdentity> local;
  std::shared_ptr<const RemoteIdentity> remote;  // number 0 until it was proved
  /// As `trust` verified it: an identity that was proved earlier holds the secret shared with an earlier key of ours.
  std::shared_ptr<const credentials::Peer> peer;
  Nonce client_nonce{};
  Nonce server_nonce{};  // server: drawn when REPLY is first made
  bool has_server_nonce = false;
  bool is_unlabelled = false;  // open: policy allowed the peer as one that offered no proof
  Digest hello{};              // T1
  Tag proof{};                 // server: expected; client: sent
  std::uint64_t early = 0;     // server: what waits for PROOF, see EarlyData
  Milliseconds asked_again{};  // server: for PROOF
  // What this end's own segment is like: a client's PROOF, from its SYN and the SYN-ACK; a server's SYN-ACK again.
  wire::OwnSegment own;
  std::uint32_t mark = 0;
  std::uint32_t device = 0;
  // Client: of the SYN.
  bool translated = false;
  std::uint16_t window = 0;
  std::uint8_t window_scale = 0;
  bool has_window_scale = false;
  std::uint8_t traffic_class = 0;
  std::uint32_t flow_label = 0;
  std::uint32_t timestamp = 0;
};

class FlowTable {
 public:
  /// Half-open handshakes of servers are counted against their clients' share in `budget`.
  FlowTable(std::size_t capacity, std::uint64_t seed, Budget& budget);

  /// Null where there is none, or its time is over.
  [[nodiscard]] Handshake* find(const FlowKey& key, Milliseconds now);
  /// A new handshake, of which only the key is set, in the place of one with the same key. Where the table is full the oldest is given up:
  /// completed ones first.
  Handshake& make(const FlowKey& key, Milliseconds now);
  /// To be called when the phase changes: ages are counted from then.
  void enter(Handshake& handshake, Phase phase, Milliseconds now);
  void remove(Handshake& handshake);
  /// Gives up some of what is too old. To be called for each packet: shares must come back though nothing new is let in.
  void expire(Milliseconds now);
  void forget_point(PointId point);

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::uint64_t evicted() const { return evicted_; }

 private:
  using Index = std::uint32_t;
  static constexpr Index kNone = ~Index{0};
  /// Ages are bounded by list: what is in one list expires in the order in which it came.
  enum class List : std::uint8_t { free, waiting, answered, settled };
  struct Slot {
    Handshake handshake;
    Index next_in_bucket = kNone;
    Index older = kNone;
    Index newer = kNone;
    List list = List::free;
    bool half_open = false;  // counted
  };
  struct Ends {
    Index oldest = kNone;
    Index newest = kNone;
  };

  [[nodiscard]] std::size_t bucket(const FlowKey& key) const;
  [[nodiscard]] Index index(const Handshake& handshake) const;
  [[nodiscard]] static List list_of(Role role, Phase phase);
  void append(Index slot, List list);
  void unlink(Index slot);
  [[nodiscard]] bool is_over(const Slot& slot, Milliseconds now) const;
  void close(Slot& slot);
  Index take_slot();
  void remove(Index slot);

  std::vector<Slot> slots_;  // grows to the capacity and stays
  std::size_t capacity_;
  std::vector<Index> buckets_;
  std::array<Ends, 4> lists_;
  std::uint64_t seed_;
  Budget& budget_;
  std::size_t size_ = 0;
  std::uint64_t evicted_ = 0;
};

}  // namespace trireme::handshake
