// SPDX-License-Identifier: Apache-2.0
// Parses the notation of endpoints and ports: selectors, entities, port specifications.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "table_reader.hpp"

namespace trireme::config {

/// Maps a network name to its index in Policy::networks.
using NetworkIndex = std::map<std::string, std::size_t, std::less<>>;

/// Parses "@host", "@world" or "@NAME"; `text` includes the '@'. `suggests`: whether the error
/// about an unknown network names the one with the most similar name, for which all are compared.
[[nodiscard]] Result<policy::Entity> parse_entity(std::string_view text,
                                                  const NetworkIndex& networks, bool suggests);

/// Like parse_test_peer() of peer.hpp, with the networks of the policy.
[[nodiscard]] Result<policy::TestPeer> parse_test_peer(std::string_view text,
                                                       const NetworkIndex& networks, bool suggests);

/// Parses a selector or an entity. Reports an error and returns nullopt if it is neither.
[[nodiscard]] std::optional<policy::Peer> read_peer(const TableReader& reader, const Text& text,
                                                    const NetworkIndex& networks);

struct PortError {
  std::size_t offset = 0;  // of the invalid byte in the text
  Error error;
};
/// Parses "tcp/5432", "udp/8000-8010", "tcp", "icmp".
[[nodiscard]] tl::expected<policy::PortRange, PortError> parse_ports(std::string_view text);

/// Like parse_ports(), but reports the error and returns nullopt.
[[nodiscard]] std::optional<policy::PortRange> read_ports(const TableReader& reader,
                                                          const Text& text);

/// The inverse of parse_ports(): "tcp/5432", "udp/8000-8010", "icmp".
[[nodiscard]] std::string ports_text(const policy::PortRange& ports);

}  // namespace trireme::config
