// SPDX-License-Identifier: Apache-2.0
// The state that TCP and UDP handshakes share: the two sides, and the contents of the messages.
#pragma once

#include <memory>

#include "peer_cache.hpp"
#include "trireme/handshake/flow_key.hpp"
#include "trireme/handshake/keys.hpp"

namespace trireme::handshake {

struct Conversation {
  FlowKey key;
  Milliseconds since{};                             // when it was put on its list, see AgedTable
  std::shared_ptr<const credentials::Trust> trust;  // the trust whose credential this host uses
  wire::CredentialType type = wire::CredentialType::local;
  std::shared_ptr<const LocalIdentity> local;
  std::shared_ptr<const RemoteIdentity> remote;  // its number is 0 until it is proved
  /// The peer as `trust` verified it. The peer in `remote` may have been verified under an earlier
  /// key of this host, and then holds the secret shared with that key.
  std::shared_ptr<const credentials::Peer> peer;
  Nonce client_nonce{};  // if is_near: MEET's tag
  Nonce server_nonce{};
  Said hello;
  Tag proof{};               // server: expected; client: sent
  Tag other_proof{};         // server: also valid, if NAT on its host changes the client's endpoint
  Tag ready{};               // UDP: READY, the server's answer to PROOF
  bool is_prepared = false;  // server: nonce and endpoints of REPLY are known
  // Server: the endpoints that REPLY and PROOF must name, see binding.hpp.
  EndBytes asked_for{};
  std::array<EndBytes, 2> clients{};  // as seen here, and as it reached this host
  bool is_unbound = false;            // PROOF names no address, because of [host] nat
  // Policy digests as HELLO and REPLY carry them.
  wire::PolicyDigest own_policy{};
  wire::PolicyDigest peers_policy{};
  bool is_near = false;            // both workloads are on this host, see near.hpp
  PointId near_point = 0;          // if is_near, on the server's side: the client's
  policy::Number near_number = 0;  // if is_near: the other workload's; 0: not known yet
  /// Nothing was proved, and policy allowed the peer without labels.
  bool is_unlabeled = false;
  // Attributes of packets that this host sends for the flow.
  std::uint32_t mark = 0;
  std::uint32_t device = 0;
  std::uint32_t flow_label = 0;
  std::uint8_t traffic_class = 0;
  bool translated = false;
};

}  // namespace trireme::handshake
