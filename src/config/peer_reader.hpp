// SPDX-License-Identifier: Apache-2.0
// What stands for one end of a flow, or for its ports: selectors, entities, port specifications.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "table_reader.hpp"

namespace trireme::config {

/// Network names to their index in Policy::networks.
using NetworkIndex = std::map<std::string, std::size_t, std::less<>>;

/// "@host", "@world" or "@NAME", the '@' included.
[[nodiscard]] Result<policy::Entity> parse_entity(std::string_view text,
                                                  const NetworkIndex& networks);

/// A selector or an entity; reports and returns nothing where it is neither.
[[nodiscard]] std::optional<policy::Peer> read_peer(const TableReader& reader, const Text& text,
                                                    const NetworkIndex& networks);

/// "tcp/5432", "udp/8000-8010", "tcp", "icmp".
struct PortError {
  std::size_t offset = 0;
  Error error;
};
[[nodiscard]] tl::expected<policy::PortRange, PortError> parse_ports(std::string_view text);

/// Reports and returns nothing where it is no port specification.
[[nodiscard]] std::optional<policy::PortRange> read_ports(const TableReader& reader,
                                                          const Text& text);

/// "tcp/5432", "udp/8000-8010", "icmp".
[[nodiscard]] std::string ports_text(const policy::PortRange& ports);

}  // namespace trireme::config
