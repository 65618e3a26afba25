// SPDX-License-Identifier: Apache-2.0
// State of one thread that the TCP and UDP handshakes share.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "locals.hpp"
#include "peer_cache.hpp"
#include "trireme/credentials/crypto.hpp"
#include "trireme/handshake/proved_flows.hpp"
#include "trireme/handshake/sample_limiter.hpp"

namespace trireme::handshake {

struct Surroundings {
  Actions& actions;
  EngineStatistics& statistics;
  PeerCache& known_peers;
  Budget& budget;
  const std::vector<policy::Prefix>& host_peers;  // [host] peers
  const std::vector<policy::Prefix>& host_nat;    // [host] nat
  const std::vector<policy::Prefix>& near;        // addresses of this host and of its containers
  const wire::PolicyDigest& policy;               // digest of the policy in force, first 8 bytes
  const std::chrono::milliseconds& now;           // monotonic time of the engine's current call
  const Locals& locals;
  IdentityBook& book;
  Proved& proved;
  credentials::Random& random;
  credentials::Aead& aead;
  const std::function<void(Event&&)>& on_event;
  SampleLimiter& samples;
};

}  // namespace trireme::handshake
