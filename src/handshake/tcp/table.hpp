// SPDX-License-Identifier: Apache-2.0
// Table of TCP handshakes, in progress and recently completed. It is bounded, with a share for each
// owner.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "aged_table.hpp"
#include "conversation.hpp"

namespace trireme::handshake {

enum class Phase : std::uint8_t {
  asked,     // client: HELLO was sent; server: HELLO was accepted
  answered,  // server: REPLY was sent
  complete,  // authorized by proof
  open,  // allowed without proof: an unlabeled process, a peer without labels that policy allows,
         // or audit mode
  refused,
};

struct Handshake : Conversation {
  Phase phase = Phase::asked;
  std::uint32_t sequence = 0;  // of the client's SYN
  bool is_repeated = false;    // HELLO or REPLY was sent more than once
  wire::OwnSegment own;        // client: PROOF; server: the SYN-ACK, to repeat it
  // Server.
  std::uint64_t early = 0;     // id of the data that waits for PROOF, see EarlyData; 0: none
  Milliseconds asked_again{};  // when PROOF was requested last
  // Client: fields of the SYN.
  std::uint16_t window = 0;
  std::uint8_t window_scale = 0;
  bool has_window_scale = false;
  std::uint32_t timestamp = 0;
};

class HandshakeTable {
 public:
  HandshakeTable(std::size_t capacity, std::uint64_t seed, Budget& budget);

  /// Null if there is none, or it has timed out.
  [[nodiscard]] Handshake* find(const FlowKey& key, Milliseconds now);
  /// Adds a handshake with only the key and `since` set, and replaces one with the same key. If the
  /// table is full, the largest owner loses its oldest handshake, completed ones first.
  Handshake& make(const FlowKey& key, const Owner& owner, Milliseconds now);
  /// Changes the phase. The age of a handshake is counted from its last change of phase.
  void enter(Handshake& handshake, Phase phase, Milliseconds now);
  void remove(Handshake& handshake);
  /// Removes some of the handshakes that timed out. True: there may be more. Call it for each
  /// packet, so that shares are freed even while no new handshakes are accepted.
  bool expire(Milliseconds now);
  /// When the next incomplete handshake times out; nullopt: there is none.
  [[nodiscard]] std::optional<Milliseconds> next_due() const;
  /// Called with each handshake that timed out, before it is removed.
  std::function<void(const Handshake&)> on_over;
  void forget_point(PointId point);

  /// True if a handshake that is not complete was answered (server), or began between two workloads
  /// of this host (client), within the last 250 ms.
  [[nodiscard]] bool awaits_proof(Milliseconds now) const;

  [[nodiscard]] std::size_t size() const { return table_.size(); }
  [[nodiscard]] const Crowding& crowding() const { return crowding_; }
  /// True if a handshake was evicted in the last 130 s, so that an unknown one may be it.
  [[nodiscard]] bool may_have_evicted(Milliseconds now) const;

 private:
  enum List : std::size_t { kWaiting, kAnswered, kFinished, kLists };
  [[nodiscard]] static List list_of(Role role, Phase phase);
  [[nodiscard]] bool is_over(const Handshake& handshake, Milliseconds now) const;
  void end(Handshake& handshake);

  AgedTable<Handshake, kLists> table_;
  Crowding crowding_;
};

}  // namespace trireme::handshake
