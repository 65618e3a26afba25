// SPDX-License-Identifier: Apache-2.0
// What the handshakes of TCP and of UDP have in common where packets are at hand.
#pragma once

#include <optional>

#include "rulings.hpp"
#include "surroundings.hpp"
#include "trireme/handshake/actions.hpp"

namespace trireme::handshake {

/// The packet at hand, and what is known of it.
struct PacketAtHand {
  const PacketFacts& facts;
  const Now& now;
  wire::Ends ends;

  [[nodiscard]] FlowKey key(Role role) const;
  [[nodiscard]] const policy::Address& remote() const {
    return facts.outgoing ? ends.destination : ends.source;
  }
  [[nodiscard]] policy::Number number() const { return facts.priority & kNumberMask; }
  /// Of codes.hpp.
  [[nodiscard]] bool is(std::uint32_t flag) const { return (facts.priority & flag) != 0; }
};

class Carrier {
 public:
  void set_policy(std::shared_ptr<const policy::Policy> policy) {
    rulings_.set_policy(std::move(policy));
  }
  void set_named(const NamedPeers* named) { rulings_.set_named(named); }

 protected:
  /// `protocol` is IANA's number.
  Carrier(std::uint8_t protocol, const Surroundings& around)
      : around_(around), rulings_(protocol, around_), protocol_(protocol) {}

  void accept(const PacketAtHand& packet, Ruling ruling, policy::Number remote = 0);
  /// As Ruling::let where packets wait behind it.
  void accept_unless_followed(const PacketAtHand& packet, Ruling ruling, policy::Number remote);
  /// With `changed_` in its place.
  void accept_changed(const PacketAtHand& packet, Ruling ruling, policy::Number remote = 0);
  /// Dropped, and counted.
  void drop(const PacketAtHand& packet, Reason reason);
  /// Dropped as what is expected, or to be repeated to the next engine.
  void discard(const PacketAtHand& packet);
  /// A verdict on a packet that has waited.
  void accept_waiting(PointId point, std::uint32_t id, std::uint32_t priority,
                      std::uint32_t if_followed = 0);
  void drop_waiting(PointId point, std::uint32_t id);
  void change(const FlowKey& key, FlowChange what);

  /// Of the flow that the packet belongs to. None: it is asked for, and the packet comes again.
  [[nodiscard]] std::optional<Translation> translation(const PacketAtHand& packet,
                                                       const FlowKey& key);

  Surroundings around_;
  Rulings rulings_;
  wire::PacketBuffer changed_;

 private:
  std::uint8_t protocol_;
};

}  // namespace trireme::handshake
