// SPDX-License-Identifier: Apache-2.0
// Handshakes under way, and those completed a moment ago: bounded, with a share for each owner.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "aged_table.hpp"
#include "conversation.hpp"

namespace trireme::handshake {

enum class Phase : std::uint8_t {
  asked,     // client: HELLO is sent; server: HELLO is accepted
  answered,  // server: REPLY is sent
  complete,  // authorised by proof
  open,  // nothing is exchanged: no workload's after all, a peer without proof that policy allows,
         // or audit mode
  refused,
};

struct Handshake : Conversation {
  Phase phase = Phase::asked;
  std::uint32_t sequence = 0;  // of the client's SYN
  bool is_repeated = false;    // HELLO or REPLY
  wire::OwnSegment own;  // a client's PROOF, from its SYN and the SYN-ACK; a server's SYN-ACK again
  // Server.
  std::uint64_t early = 0;  // what waits for PROOF, see EarlyData
  Milliseconds asked_again{};
  // Client: of the SYN.
  std::uint16_t window = 0;
  std::uint8_t window_scale = 0;
  bool has_window_scale = false;
  std::uint32_t timestamp = 0;
};

class FlowTable {
 public:
  FlowTable(std::size_t capacity, std::uint64_t seed, Budget& budget);

  /// Null where there is none, or its time is over.
  [[nodiscard]] Handshake* find(const FlowKey& key, Milliseconds now);
  /// A new handshake, of which only the key is set, in the place of one with the same key. Where
  /// the table is full the owner that holds most gives up its oldest: completed ones first.
  Handshake& make(const FlowKey& key, const Owner& owner, Milliseconds now);
  /// To be called when the phase changes: ages are counted from then.
  void enter(Handshake& handshake, Phase phase, Milliseconds now);
  void remove(Handshake& handshake);
  /// Gives up some of what is too old; whether there is more. To be called for each packet: shares
  /// must come back though nothing new is let in.
  bool expire(Milliseconds now);
  /// When the next one that is not complete will be; nullopt: there is none.
  [[nodiscard]] std::optional<Milliseconds> next_due() const;
  /// Called with each handshake that is given up for its age, while it is still there.
  std::function<void(const Handshake&)> on_over;
  void forget_point(PointId point);

  /// Whether one of a server was answered, or one between two workloads of this host begun, within
  /// the last quarter of a second and is not complete.
  [[nodiscard]] bool awaits_proof(Milliseconds now) const;

  [[nodiscard]] std::size_t size() const { return table_.size(); }
  [[nodiscard]] const Crowding& crowding() const { return crowding_; }
  /// A handshake that is not known may be one that was given up a while ago.
  [[nodiscard]] bool may_have_evicted(Milliseconds now) const;

 private:
  enum List : std::size_t { kWaiting, kAnswered, kSettled, kLists };
  [[nodiscard]] static List list_of(Role role, Phase phase);
  [[nodiscard]] bool is_over(const Handshake& handshake, Milliseconds now) const;
  void end(Handshake& handshake);

  AgedTable<Handshake, kLists> table_;
  Crowding crowding_;
};

}  // namespace trireme::handshake
