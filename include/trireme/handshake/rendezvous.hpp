// SPDX-License-Identifier: Apache-2.0
// Where both ends of a flow between two workloads of this daemon meet: the request that left one of
// them is the one that arrives at the other, through this host's own address translation. It bears
// a random number, which says nothing to anybody else, and nothing that could be relayed.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "trireme/handshake/flow_key.hpp"
#include "trireme/handshake/identities.hpp"
#include "trireme/handshake/owner.hpp"

namespace trireme::handshake {

/// A request as it left its enforcement point.
struct Departure {
  FlowKey key;
  std::uint64_t request = 0;  // the first 8 bytes of MEET's tag
  std::shared_ptr<const LocalIdentity> client;
  bool is_closing = false;  // UDP: it ends the flow
};

/// What became of it at the server's end.
enum class Met : std::uint8_t { nobody, allowed, refused };

struct Meeting {
  Met met = Met::nobody;
  std::shared_ptr<const LocalIdentity> server;  // of one that met somebody
};

/// Of one protocol, for all threads; thread-safe. Every call takes a bounded time.
class Rendezvous {
 public:
  Rendezvous(std::size_t capacity, std::uint64_t seed);
  ~Rendezvous();
  Rendezvous(const Rendezvous&) = delete;
  Rendezvous& operator=(const Rendezvous&) = delete;

  /// Where there is no room, the workload that has most loses its oldest.
  void depart(const Departure& departure, Milliseconds now);
  /// Whose request it is that has this number. With which ends it left is to be compared.
  [[nodiscard]] std::optional<Departure> arrive(std::uint64_t request, Milliseconds now) const;
  void decide(std::uint64_t request, const Meeting& meeting);
  /// The client's look.
  [[nodiscard]] Meeting meeting(const FlowKey& key, std::uint64_t request, Milliseconds now) const;
  /// What the client has seen the end of.
  void remove(std::uint64_t request);
  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] Crowding crowding() const;

 private:
  struct Table;
  mutable std::mutex mutex_;
  std::unique_ptr<Table> table_;
};

}  // namespace trireme::handshake
