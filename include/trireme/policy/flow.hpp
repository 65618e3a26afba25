// SPDX-License-Identifier: Apache-2.0
// A flow as it is told: to the journal, to `trirectl flows`, and to whoever follows.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trireme/policy/evaluate.hpp"

namespace trireme::policy {

/// One end, as it was when the packet came.
struct FlowEnd {
  std::optional<LabelSet> labels;     // of a workload
  std::string workload;               // its name; empty where it has gone, or is none
  std::string entity;                 // "@host" or "@world" where there are no labels
  std::vector<std::string> networks;  // that its address is in, where there are no labels
  std::vector<std::string> names;     // DNS names that its address was learned for
  std::vector<std::size_t> named;     // networks by those names, indices into the policy's
  std::string host;                   // that vouches for the labels; empty: this one
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
  std::string rule;        // Rule::text() of the rule that decided; empty where none did
  std::string reason;
  std::string cause;  // of a handshake, one word (handshake::text(Reason)); empty: rules in the
                      // kernel decided
};

}  // namespace trireme::policy
