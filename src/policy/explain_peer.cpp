// SPDX-License-Identifier: Apache-2.0
// Writes ports and the sides of rules.
#include <fmt/format.h>
#include <netinet/in.h>

#include "trireme/policy/explain.hpp"

namespace trireme::policy {
namespace {

std::string protocol_text(std::uint8_t protocol) {
  switch (protocol) {
    case IPPROTO_TCP:
      return "tcp";
    case IPPROTO_UDP:
      return "udp";
    case IPPROTO_ICMP:
      return "icmp";
    case IPPROTO_ICMPV6:
      return "icmpv6";
    default:
      return std::to_string(protocol);
  }
}

}  // namespace

std::string port_text(std::uint8_t protocol, std::uint16_t port) {
  const bool ports = protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
  return ports ? fmt::format("{}/{}", protocol_text(protocol), port) : protocol_text(protocol);
}

std::string range_text(const PortRange& range) {
  if (range.protocol != IPPROTO_TCP && range.protocol != IPPROTO_UDP) {
    return port_text(range.protocol, 0);
  }
  if (range.first == 0 && range.last == 65535) {
    return protocol_text(range.protocol);
  }
  return range.first == range.last
             ? port_text(range.protocol, range.first)
             : fmt::format("{}-{}", port_text(range.protocol, range.first), range.last);
}

std::string peer_text(const Policy& policy, const Peer& peer) {
  if (const auto* selector = std::get_if<Selector>(&peer)) {
    return selector->text();
  }
  const auto& entity = std::get<Entity>(peer);
  switch (entity.kind) {
    case Entity::Kind::host:
      return "@host";
    case Entity::Kind::world:
      return "@world";
    case Entity::Kind::network:
      return "@" + (entity.network < policy.networks.size() ? policy.networks[entity.network].name
                                                            : std::string("?"));
  }
  return "?";
}

}  // namespace trireme::policy
