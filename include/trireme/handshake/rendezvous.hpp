// SPDX-License-Identifier: Apache-2.0
// Flows between two workloads of this daemon: recognizes an arriving request as the one that left
// the other workload, through NAT of this host. The request carries a random number. The number
// contains no information, and relaying it is useless because the addresses are compared as well.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "trireme/handshake/flow_key.hpp"
#include "trireme/handshake/identities.hpp"
#include "trireme/handshake/owner.hpp"

namespace trireme::handshake {

/// A request as it left its client's enforcement point.
struct Departure {
  FlowKey key;
  std::uint64_t request = 0;  // the first 8 bytes of MEET's tag, which identify the request
  std::shared_ptr<const LocalIdentity> client;
  bool is_closing = false;  // UDP: the request ends the flow
};

/// The decision on a request on the server's side. nobody: none yet.
enum class Met : std::uint8_t { nobody, allowed, refused };

struct Meeting {
  Met met = Met::nobody;
  std::shared_ptr<const LocalIdentity> server;  // null if `met` is nobody
};

/// The requests of one protocol, shared by all threads. Thread-safe. Calls take bounded time.
class Rendezvous {
 public:
  Rendezvous(std::size_t capacity, std::uint64_t seed);
  ~Rendezvous();
  Rendezvous(const Rendezvous&) = delete;
  Rendezvous& operator=(const Rendezvous&) = delete;

  /// Adds a request, or refreshes it if it is repeated. If the table is full, the oldest request of
  /// the workload with the most requests is removed.
  void depart(const Departure& departure, Milliseconds now);
  /// Finds the request with this number. The caller must compare the addresses and ports that it
  /// left with. Requests older than 130 s are not found.
  [[nodiscard]] std::optional<Departure> arrive(std::uint64_t request, Milliseconds now) const;
  /// Records the decision of the server's side.
  void decide(std::uint64_t request, const Meeting& meeting);
  /// The decision, for the client's side. Met::nobody if there is none, or `key` is not the
  /// request's.
  [[nodiscard]] Meeting meeting(const FlowKey& key, std::uint64_t request, Milliseconds now) const;
  /// Removes a request that the client's side has finished.
  void remove(std::uint64_t request);
  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] Crowding crowding() const;

 private:
  struct Table;
  mutable std::mutex mutex_;
  std::unique_ptr<Table> table_;
};

}  // namespace trireme::handshake
