// SPDX-License-Identifier: Apache-2.0
// Pairs the TCP sockets of a host into connections, and finds out which end is the client. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "trireme/policy/address.hpp"

namespace trireme::policy {

/// One direction of a connection. Ports are in host byte order.
struct Direction {
  Address source;
  Address destination;
  std::uint16_t source_port = 0;
  std::uint16_t destination_port = 0;
  [[nodiscard]] Direction reversed() const {
    return {destination, source, destination_port, source_port};
  }
  auto operator<=>(const Direction&) const = default;
};

/// A TCP socket: a listener, or one end of a connection.
struct LiveSocket {
  std::uint64_t network = 0;  // its network namespace: inode number, 0 for the daemon's own
  Direction sends;            // source: the local end. The destination port of a listener is 0
  std::size_t owner = 0;      // opaque: names the owner for the caller
};

/// A connection as the conntrack of a network namespace has it. Needed for connections whose
/// addresses NAT has changed, and where no listener shows which end is the server.
struct LiveTrack {
  std::uint64_t network = 0;
  Direction original;
  Direction reply;
  /// Conntrack saw the connection from its beginning, so `original` is from the client.
  bool is_from_start = true;
};

/// At least one of `client` and `server` is set.
struct LiveConnection {
  const LiveSocket* client = nullptr;  // null: not a socket of this host, or not found
  const LiveSocket* server = nullptr;
  /// The client's and the server's address and port, as the server's socket has them; without a
  /// server's socket as they leave the client, after NAT.
  Direction from_client;
  /// Which end is the client is a guess by the ports: no listener is left, and conntrack did not
  /// see the connection begin.
  bool is_guess = false;
  /// Indices of the tracks that are about this connection: in the client's network namespace, in
  /// the server's.
  std::optional<std::size_t> client_track;
  std::optional<std::size_t> server_track;
};

/// Each connection appears once. Two sockets are the ends of one connection if their addresses are
/// the reverse of each other, in one network namespace or (not for loopback addresses) in two, or
/// if a track connects them. If several namespaces have sockets with these addresses, sockets of
/// different namespaces are not paired. The result refers to `sockets`, in their order.
[[nodiscard]] std::vector<LiveConnection> live_connections(const std::vector<LiveSocket>& sockets,
                                                           const std::vector<LiveTrack>& tracks);

}  // namespace trireme::policy
