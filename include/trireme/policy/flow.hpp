// SPDX-License-Identifier: Apache-2.0
// A flow as it is reported in the journal and by `trirectl flows`.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trireme/abi/abi.hpp"
#include "trireme/policy/evaluate.hpp"

namespace trireme::policy {

/// One endpoint, as it was when the packet arrived.
struct FlowEnd {
  std::optional<LabelSet> labels;     // of a workload
  std::string workload;               // its name; empty if it is unknown, or is not a workload
  abi::Number number = 0;             // of a workload of this host; 0: not known
  std::string entity;                 // "@host" or "@world" if it has no labels
  std::vector<std::string> networks;  // that contain its address, if it has no labels
  std::vector<std::string> names;     // DNS names that resolved to its address
  std::vector<std::size_t> named;     // indices of the policy's networks with those names
  std::string host;                   // remote host that vouches for the labels; empty: this host
  bool quarantined = false;
  bool ended = false;  // a socket of a workload that has ended, which another process still has
  std::optional<Address> address;
  /// Of an unlabeled process of this host: the cgroup of the unit or container that it belongs to,
  /// if it was looked up and there is one.
  std::string cgroup = {};
};

/// What reports a flow. Several can report the same one: control::FlowPairs.
enum class Reporter : std::uint8_t {
  rules,   // the rules of an enforcement point
  gate,    // the gate, at a socket
  client,  // at the source: the handshake, or a sample
  server,  // at the destination: the same
};

struct Flow {
  std::chrono::system_clock::time_point time;
  Verdict verdict = Verdict::deny;
  /// The verdicts of the two ends; nullopt: the end is no workload, or its verdict is not known
  /// here.
  std::optional<Verdict> at_source, at_destination;
  Reporter reporter = Reporter::rules;
  FlowEnd source;
  FlowEnd destination;
  std::uint8_t protocol = 0;
  std::uint16_t port = 0;  // of the destination; 0 for ICMP
  std::string rule;        // Rule::text() of the rule that decided; empty if none did
  std::string reason;
  bool sampled = false;  // allowed, and reported for `flows --all` only
  std::string cause;     // of a handshake: one word, handshake::text(Reason). Empty: the rules in
                         // the kernel decided
  std::string policy;    // digest of the policy in force, 16 hexadecimal digits; empty: not known
};

}  // namespace trireme::policy
