// SPDX-License-Identifier: Apache-2.0
#include "carrier.hpp"

#include "binding.hpp"

namespace trireme::handshake {

FlowKey PacketAtHand::key(Role role) const {
  return facts.outgoing ? FlowKey{ends.source,           ends.destination, ends.source_port,
                                  ends.destination_port, facts.point,      role}
                        : FlowKey{ends.destination, ends.source, ends.destination_port,
                                  ends.source_port, facts.point, role};
}

void Carrier::accept(const PacketAtHand& packet, abi::Ruling ruling, policy::Number remote) {
  accept_waiting(packet.facts.point, packet.facts.id, static_cast<std::uint32_t>(ruling) | remote);
}

void Carrier::accept_unless_followed(const PacketAtHand& packet, abi::Ruling ruling,
                                     policy::Number remote) {
  accept_waiting(packet.facts.point, packet.facts.id, static_cast<std::uint32_t>(ruling) | remote,
                 static_cast<std::uint32_t>(abi::Ruling::let));
}

void Carrier::accept_changed(const PacketAtHand& packet, abi::Ruling ruling,
                             policy::Number remote) {
  around_.actions.add(PacketVerdict{.point = packet.facts.point,
                                    .id = packet.facts.id,
                                    .priority = static_cast<std::uint32_t>(ruling) | remote,
                                    .changed = &changed_});
}

void Carrier::drop(const PacketAtHand& packet, Reason reason) {
  rulings_.count(reason);
  discard(packet);
}

void Carrier::discard(const PacketAtHand& packet) {
  drop_waiting(packet.facts.point, packet.facts.id);
}

void Carrier::accept_waiting(PointId point, std::uint32_t id, std::uint32_t priority,
                             std::uint32_t if_followed) {
  around_.actions.add(
      PacketVerdict{.point = point, .id = id, .priority = priority, .if_followed = if_followed});
}

void Carrier::drop_waiting(PointId point, std::uint32_t id) {
  around_.actions.add(PacketVerdict{.point = point, .id = id, .drop = true});
}

void Carrier::change(const FlowKey& key, FlowChange what) {
  around_.actions.add(EntryChange{key.point, protocol_, ends_of_client(key), what});
}

std::optional<Translation> Carrier::translation(const PacketAtHand& packet, const FlowKey& key) {
  auto known = known_translation(key, packet.facts);
  if (!known) {
    around_.actions.ask(about_translation(protocol_, key, packet.facts.priority));
  }
  return known;
}

}  // namespace trireme::handshake
