// SPDX-License-Identifier: Apache-2.0
// A flow as it is reported in the journal and by `trirectl flows`.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trireme/policy/evaluate.hpp"

namespace trireme::policy {

/// One endpoint, as it was when the packet arrived.
struct FlowEnd {
  std::optional<LabelSet> labels;     // of a workload
  std::string workload;               // its name; empty if it has ended, or is not a workload
  std::string entity;                 // "@host" or "@world" if it has no labels
  std::vector<std::string> networks;  // that contain its address, if it has no labels
  std::vector<std::string> names;     // DNS names that resolved to its address
  std::vector<std::size_t> named;     // indices of the policy's networks with those names
  std::string host;                   // remote host that vouches for the labels; empty: this host
  bool quarantined = false;
  std::optional<Address> address;
};

struct Flow {
  std::chrono::system_clock::time_point time;
  Verdict verdict = Verdict::deny;
  FlowEnd source;
  FlowEnd destination;
  std::uint8_t protocol = 0;
  std::uint16_t port = 0;  // of the destination; 0 for ICMP
  std::string rule;        // Rule::text() of the rule that decided; empty if none did
  std::string reason;
  bool sampled = false;  // allowed, and reported for `flows --all` only
  std::string cause;     // of a handshake: one word, handshake::text(Reason). Empty: the rules in
                         // the kernel decided
};

}  // namespace trireme::policy
