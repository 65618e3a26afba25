// SPDX-License-Identifier: Apache-2.0
// Flows that were seen, identical ones grouped: the input of suggestions, diffs and graphs.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trireme/policy/flow.hpp"
#include "trireme/policy/names.hpp"

namespace trireme::policy {

struct SeenEnd {
  std::optional<LabelSet> labels;  // of a workload
  std::string workload;            // name of one of the workloads seen; may be empty
  bool host = false;               // without labels: true for a process of this host
  std::optional<Address> address;
  std::vector<std::string> names = {};  // DNS names of the address, in lower case
  /// Of an unlabeled process of this host: the cgroup of the unit or container that it belongs to,
  /// if that is known. The unit or container is no workload now, but can become one.
  std::string cgroup = {};
  /// Of a workload, in an open TCP connection: it asked the other end for a token, or got one, so
  /// that the verifier decides about segments without a verdict. It knows the connection as one of
  /// this workload: with other labels, or none, the connection ends.
  bool has_token = false;

  /// `named`: indices of the policy's networks that contain the names. Not owned: must outlive the
  /// result.
  [[nodiscard]] Endpoint endpoint(std::span<const std::size_t> named = {}) const;
  [[nodiscard]] std::vector<std::size_t> networks(const NameIndex& index) const;
  /// "app=web", the name of a workload without labels, "@host", "10.0.0.53"
  [[nodiscard]] std::string text() const;
};

struct SeenFlow {
  SeenEnd from;
  SeenEnd to;
  std::uint8_t protocol = 0;
  std::uint16_t port = 0;
  std::uint64_t count = 1;
  Verdict verdict = Verdict::allow;  // when the flow was seen; judge() evaluates it by a policy
  std::string last;                  // time of the newest flow, as text; may be empty
  /// Open TCP connections: the clients' ports. An open connection continues if the policy allows
  /// either direction, because nothing says who began it: the gate evaluates each packet in both,
  /// and the rules a segment without verdict. Not where labels were proved, which says who did.
  std::vector<std::uint16_t> client_ports = {};
  bool is_local = false;  // both ends have their sockets in one network namespace of this host
  /// The ends are in two network namespaces of this host, and have not proved labels to each other:
  /// even if both are workloads, each is @world to the other, at its address.
  bool is_unproved = false;
};

/// `count` flows like this one.
[[nodiscard]] SeenFlow seen(const Flow& flow, std::uint64_t count,
                            std::vector<std::uint16_t> client_ports = {});

/// Evaluates the flow, as if it began now. `names` is the policy's index.
[[nodiscard]] Decision judge(const Policy& policy, const NameIndex& names, const SeenFlow& flow);

/// How many of `flow.count` flows the policy denies. If `client_ports` is not empty, they are open
/// connections.
[[nodiscard]] std::uint64_t count_denied(const Policy& policy, const NameIndex& names,
                                         const SeenFlow& flow);

}  // namespace trireme::policy
