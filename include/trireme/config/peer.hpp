// SPDX-License-Identifier: Apache-2.0
// Endpoints of a flow as [[test]] entries write them. policy::parse_ends() reads those of `trirectl
// policy explain`.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/policy/evaluate.hpp"
#include "trireme/policy/names.hpp"

namespace trireme::config {

/// Parses "app=web,env=prod", "@host", "@world", "@NAME" of a network, or an IP address (an
/// endpoint without labels, in @world).
[[nodiscard]] Result<policy::TestPeer> parse_test_peer(std::string_view text,
                                                       const policy::Policy& policy);

/// The inverse of parse_test_peer(): "app=web,env=prod", "@corp-dns", "192.0.2.1".
[[nodiscard]] std::string text(const policy::Policy& policy, const policy::TestPeer& peer);

struct Ends {
  std::vector<policy::Endpoint> list;
  std::vector<std::shared_ptr<const std::vector<std::size_t>>> named =
      {};  // owns the vectors that Endpoint::named of `list` refers to
};

/// The endpoints for which evaluate() must be asked to cover `peer`. Usually one. For a network,
/// these are its policy::samples() (as @world, because processes of @host have other addresses),
/// and one endpoint for each distinct set of networks that its DNS names belong to. `names`: of
/// `policy`; building it costs more than a call. `peer` must outlive the result.
[[nodiscard]] Ends endpoints(const policy::Policy& policy, const policy::NameIndex& names,
                             const policy::TestPeer& peer, std::uint64_t workload);

}  // namespace trireme::config
