// SPDX-License-Identifier: Apache-2.0
// Base of the TCP and UDP handshakes: verdicts on packets, and questions about them.
#pragma once

#include <optional>

#include "rulings.hpp"
#include "surroundings.hpp"
#include "trireme/handshake/actions.hpp"

namespace trireme::handshake {

/// The packet being handled, and its facts.
struct PacketAtHand {
  const PacketFacts& facts;
  const Now& now;
  wire::Ends ends;

  [[nodiscard]] FlowKey key(Role role) const;
  [[nodiscard]] const policy::Address& remote() const {
    return facts.outgoing ? ends.destination : ends.source;
  }
  [[nodiscard]] policy::Number number() const { return facts.priority & abi::kNumberMask; }
  /// `flag` is one of abi/abi.hpp.
  [[nodiscard]] bool is(std::uint32_t flag) const { return (facts.priority & flag) != 0; }
};

class Carrier {
 public:
  void set_policy(std::shared_ptr<const policy::Policy> policy) {
    rulings_.set_policy(std::move(policy));
  }
  void set_named(const NamedPeers* named) { rulings_.set_named(named); }

 protected:
  /// `protocol` is the IANA number.
  Carrier(std::uint8_t protocol, const Surroundings& around)
      : around_(around), rulings_(protocol, around_), protocol_(protocol) {}

  void accept(const PacketAtHand& packet, abi::Ruling ruling, policy::Number remote = 0);
  /// Uses abi::Ruling::let instead if more packets wait in the queue behind this one.
  void accept_unless_followed(const PacketAtHand& packet, abi::Ruling ruling,
                              policy::Number remote);
  /// Accepts `changed_` in place of the packet.
  void accept_changed(const PacketAtHand& packet, abi::Ruling ruling, policy::Number remote = 0);
  /// Drops the packet and counts the reason.
  void drop(const PacketAtHand& packet, Reason reason);
  /// Drops the packet without counting: it is expected, or TCP will repeat it to the next engine.
  void discard(const PacketAtHand& packet);
  /// The verdict on a held packet.
  void accept_waiting(PointId point, std::uint32_t id, std::uint32_t priority,
                      std::uint32_t if_followed = 0);
  void drop_waiting(PointId point, std::uint32_t id);
  void change(const FlowKey& key, FlowChange what);

  /// The translation of the packet's flow. None: a question was added to the actions, and the
  /// packet will be handled again with the answer.
  [[nodiscard]] std::optional<Translation> translation(const PacketAtHand& packet,
                                                       const FlowKey& key);

  Surroundings around_;
  Rulings rulings_;
  wire::PacketBuffer changed_;

 private:
  std::uint8_t protocol_;
};

}  // namespace trireme::handshake
