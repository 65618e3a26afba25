// SPDX-License-Identifier: Apache-2.0
// What the handshakes of TCP and of UDP share in one thread.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "locals.hpp"
#include "peer_cache.hpp"
#include "trireme/credentials/crypto.hpp"
#include "trireme/handshake/proved_flows.hpp"

namespace trireme::handshake {

struct Surroundings {
  Actions& actions;
  EngineStatistics& statistics;
  PeerCache& peers;
  Budget& budget;
  const std::vector<policy::Prefix>& networks;    // [host] peers
  const std::vector<policy::Prefix>& translated;  // [host] nat
  const std::vector<policy::Prefix>& near;        // of this host and of its containers
  const wire::PolicyDigest& policy;               // of the policy in force
  const Locals& locals;
  IdentityBook& book;
  Proved& proved;
  credentials::Random& random;
  credentials::Aead& aead;
  const std::function<void(Event&&)>& on_event;
};

}  // namespace trireme::handshake
