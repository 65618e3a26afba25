// SPDX-License-Identifier: Apache-2.0
// Ends the connections in which a workload has proved labels that it has no more.
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <set>

#include "trireme/abi/abi.hpp"
#include "trireme/enforcer/enforcer.hpp"
#include "trireme/enforcer/local_policy.hpp"

namespace trireme::enforcer {

using kernel::TrackedFlow;

/// Whether the verifier knows the connection of this socket as proved.
bool Enforcer::is_proved(const kernel::InetSocket& socket) const {
  return common_.is_proved &&
         std::ranges::any_of(
             std::array{handshake::Role::client, handshake::Role::server},
             [&](handshake::Role role) {
               return common_.is_proved({socket.local, socket.remote, socket.local_port,
                                         socket.remote_port, layout_.point, role});
             });
}

/// Closes the connections in which labels were proved, or asked for, of these cgroups or (null) of
/// all: their workloads are none any more. The other end's enforcement point still knows them by
/// the labels, and would let the connections go on. A connection that conntrack has forgotten may
/// be known to the verifier, and one with NAT to conntrack alone.
Status Enforcer::end_proved(const std::unordered_set<std::uint64_t>* cgroups) {
  if (common_.local.audits()) {
    return {};
  }
  const auto sockets = sockets_.connections();
  if (!sockets) {
    return tl::unexpected(sockets.error());
  }
  std::set<kernel::FlowTuple> with_token;  // as the sockets send
  Status outcome = conntrack_.each([&with_token](const TrackedFlow& flow) {
    if (flow.protocol == IPPROTO_TCP && (flow.label[0] & abi::kToken) != 0) {
      with_token.insert({flow.original, flow.reply});
    }
  });
  for (const kernel::InetSocket& socket : *sockets) {
    const bool concerns = cgroups == nullptr || cgroups->contains(socket.cgroup_id);
    if (concerns && (with_token.contains(
                         {socket.local, socket.remote, socket.local_port, socket.remote_port}) ||
                     is_proved(socket))) {
      const Status ended = sockets_.destroy(socket);
      outcome = outcome ? ended : outcome;
    }
  }
  return outcome;
}

}  // namespace trireme::enforcer
