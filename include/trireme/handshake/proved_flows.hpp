// SPDX-License-Identifier: Apache-2.0
// Proved flows of this host's workloads. Conntrack forgets flows that are idle or half closed, and
// can be flushed. A flow that was proved when it began may continue after that, and only this table
// knows that it was proved.
#pragma once

#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "trireme/handshake/flow_key.hpp"
#include "trireme/handshake/owner.hpp"
#include "trireme/handshake/peer_health.hpp"
#include "trireme/handshake/rendezvous.hpp"

namespace trireme::handshake {

struct ProvedFlow {
  FlowKey key;  // addresses and ports as the local socket has them
  policy::Number local = 0;
  policy::Number remote = 0;  // this host's number of the identity that the peer proved
  std::uint64_t socket = 0;   // TCP: the socket's cookie (sock_diag); 0: not looked up yet
  policy::Number client = 0;  // on the server's side: the workload of this host that began it, or 0
  bool operator==(const ProvedFlow&) const = default;
};

/// All threads share one table. Thread-safe. Every call takes bounded time, except forget_point()
/// and those that return lists.
class ProvedFlows {
 public:
  static constexpr std::size_t kCapacity = 65'536;

  /// `seed` must be secret, so that others cannot choose flows that share a hash bucket.
  ProvedFlows(std::size_t capacity, std::uint64_t seed);
  ~ProvedFlows();
  ProvedFlows(const ProvedFlows&) = delete;
  ProvedFlows& operator=(const ProvedFlows&) = delete;

  /// Adds a flow and replaces one with the same key. If the table is full, the oldest flow of the
  /// workload or remote host that began most of them is removed.
  void enter(const ProvedFlow& flow, Milliseconds now);
  [[nodiscard]] std::optional<ProvedFlow> find(const FlowKey& key) const;
  void remove(const FlowKey& key) { remove(key, Milliseconds::max()); }
  /// Does nothing if the flow was entered or touched at `before` or later.
  void remove(const FlowKey& key, Milliseconds before);
  /// Records that the flow is still in use by this socket; it becomes the newest.
  void touch(const FlowKey& key, std::uint64_t socket, Milliseconds now);
  /// Removes the flows of an enforcement point that no longer exists.
  void forget_point(PointId point);

  /// Flows that were entered or touched before `time`, oldest first.
  [[nodiscard]] std::vector<ProvedFlow> entered_before(Milliseconds time) const;
  [[nodiscard]] std::vector<FlowKey> of_point(PointId point) const;
  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] Crowding crowding() const;

 private:
  struct Table;
  mutable std::mutex mutex_;
  std::unique_ptr<Table> table_;
};

/// The tables that all threads share.
struct Proved {
  static constexpr std::size_t kRequests = 16'384;  // in progress at the same time
  explicit Proved(std::uint64_t seed, std::size_t capacity = ProvedFlows::kCapacity)
      : connections(capacity, seed),
        datagrams(capacity, seed),
        requests(std::min(capacity, kRequests), seed),
        first_datagrams(std::min(capacity, kRequests), seed) {}
  /// TCP connections, as long as their sockets exist.
  ProvedFlows connections;
  /// UDP flows on the client's side. The remote host may remember such a flow longer than conntrack
  /// here does. Without this table, another process that gets the client's port would use the
  /// authorization of the client's flow.
  ProvedFlows datagrams;
  /// Flows between two workloads of this host that are being set up: TCP, and UDP.
  Rendezvous requests;
  Rendezvous first_datagrams;
  PeerHealth peers;
};

}  // namespace trireme::handshake
