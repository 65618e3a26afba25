// SPDX-License-Identifier: Apache-2.0
// What the handshakes of TCP and of UDP have alike: who talks to whom, and what was said.
#pragma once

#include <memory>

#include "peer_cache.hpp"
#include "trireme/handshake/flow_key.hpp"
#include "trireme/handshake/keys.hpp"

namespace trireme::handshake {

struct Conversation {
  FlowKey key;
  Milliseconds since{};                             // when it came on its list
  std::shared_ptr<const credentials::Trust> trust;  // whose credential of ours is in use
  wire::CredentialType type = wire::CredentialType::local;
  std::shared_ptr<const LocalIdentity> local;
  std::shared_ptr<const RemoteIdentity> remote;  // number 0 until it was proved
  /// As `trust` verified it: an identity that was proved earlier holds the secret shared with an
  /// earlier key of ours.
  std::shared_ptr<const credentials::Peer> peer;
  Nonce client_nonce{};  // is_near: MEET's tag
  Nonce server_nonce{};
  Said hello;
  Tag proof{};        // server: expected; client: sent
  Tag other_proof{};  // server: expected as well, where NAT on its host changes the client's end
  Tag ready{};        // UDP: the server's answer to it
  bool is_prepared = false;  // server: what REPLY says is drawn and looked up
  // Server: which flow REPLY and PROOF are about, see binding.hpp.
  EndBytes asked_for{};
  std::array<EndBytes, 2> clients{};  // as it is here, and as it came to this host
  bool is_unbound = false;            // by [host] nat
  // As HELLO and REPLY say it.
  wire::PolicyDigest own_policy{};
  wire::PolicyDigest peers_policy{};
  bool is_near = false;  // both ends are on this host: near.hpp
  // Then, at the server: where the client is, and which workload.
  PointId near_point = 0;
  policy::Number near_client = 0;
  /// Nothing was proved, and policy allowed the peer as one without labels.
  bool is_unlabelled = false;
  // What packets of our own are like.
  std::uint32_t mark = 0;
  std::uint32_t device = 0;
  std::uint32_t flow_label = 0;
  std::uint8_t traffic_class = 0;
  bool translated = false;
};

}  // namespace trireme::handshake
