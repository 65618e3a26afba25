// SPDX-License-Identifier: Apache-2.0
// Flows of this host's workloads that were proved. Conntrack forgets what is idle, half closed or
// flushed; what was proved when a flow began still holds, and nothing else says so.
#pragma once

#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "trireme/handshake/flow_key.hpp"
#include "trireme/handshake/owner.hpp"
#include "trireme/handshake/rendezvous.hpp"

namespace trireme::handshake {

struct ProvedFlow {
  FlowKey key;  // as the socket has its ends
  policy::Number local = 0;
  policy::Number remote = 0;  // this host's number for the identity that the peer proved
  std::uint64_t socket = 0;   // of TCP: its cookie (sock_diag), once that was looked up
  policy::Number client = 0;  // at the server: which workload of this host began it; 0: none
  bool operator==(const ProvedFlow&) const = default;
};

/// One for all threads; thread-safe. Every call but forget_point() and those that list takes a
/// bounded time.
class ProvedFlows {
 public:
  static constexpr std::size_t kCapacity = 65'536;

  /// `seed` keeps others from choosing which flows share a bucket.
  ProvedFlows(std::size_t capacity, std::uint64_t seed);
  ~ProvedFlows();
  ProvedFlows(const ProvedFlows&) = delete;
  ProvedFlows& operator=(const ProvedFlows&) = delete;

  /// In the place of one with the same key. When the table is full, the workload or remote host
  /// that began most of them loses its oldest.
  void enter(const ProvedFlow& flow, Milliseconds now);
  [[nodiscard]] std::optional<ProvedFlow> find(const FlowKey& key) const;
  void remove(const FlowKey& key) { remove(key, Milliseconds::max()); }
  /// Unless it was entered at this time or later.
  void remove(const FlowKey& key, Milliseconds before);
  /// It is still in use, by this socket: it becomes the youngest.
  void touch(const FlowKey& key, std::uint64_t socket, Milliseconds now);
  /// Those of an enforcement point that is gone.
  void forget_point(PointId point);

  /// Oldest first.
  [[nodiscard]] std::vector<ProvedFlow> entered_before(Milliseconds time) const;
  [[nodiscard]] std::vector<FlowKey> of_point(PointId point) const;
  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] Crowding crowding() const;

 private:
  struct Table;
  mutable std::mutex mutex_;
  std::unique_ptr<Table> table_;
};

/// What all threads have in common.
struct Proved {
  static constexpr std::size_t kRequests = 16'384;  // under way at a time
  explicit Proved(std::uint64_t seed, std::size_t capacity = ProvedFlows::kCapacity)
      : connections(capacity, seed),
        datagrams(capacity, seed),
        requests(std::min(capacity, kRequests), seed),
        first_datagrams(std::min(capacity, kRequests), seed) {}
  /// Of TCP, as long as their sockets live.
  ProvedFlows connections;
  /// Of UDP, at their clients: the far end may believe in such a flow longer than conntrack here
  /// remembers it, and a process that gets the client's port would be taken for the client.
  ProvedFlows datagrams;
  /// Flows between two workloads of this host, while they begin: of TCP, and of UDP.
  Rendezvous requests;
  Rendezvous first_datagrams;
};

}  // namespace trireme::handshake
