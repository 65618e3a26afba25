// SPDX-License-Identifier: Apache-2.0
// One end of a flow and its port as a person writes them: in [[test]], in trirectl policy explain.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/policy/evaluate.hpp"

namespace trireme::config {

/// "app=web,env=prod", "@host", "@world", "@NAME" of a network, or an IP address (a peer without
/// labels in the world).
[[nodiscard]] Result<policy::TestPeer> parse_test_peer(std::string_view text,
                                                       const policy::Policy& policy);

/// "tcp/5432", "udp/8000-8010", "tcp", "icmp".
[[nodiscard]] Result<policy::PortRange> parse_port_range(std::string_view text);

/// "app=web,env=prod", "@corp-dns", "192.0.2.1": the inverse of parse_test_peer.
[[nodiscard]] std::string text(const policy::Policy& policy, const policy::TestPeer& peer);

struct Ends {
  std::vector<policy::Endpoint> list;
  std::vector<std::shared_ptr<const std::vector<std::size_t>>> named =
      {};  // that endpoints point to
};

/// What to ask evaluate() for. One endpoint, or for a network policy::samples() of it (in the
/// world, as an @host process has other addresses), and one for each of its names that other
/// networks have in common with it. `peer` must outlive the endpoints.
[[nodiscard]] Ends endpoints(const policy::Policy& policy, const policy::TestPeer& peer,
                             std::uint64_t workload);

}  // namespace trireme::config
