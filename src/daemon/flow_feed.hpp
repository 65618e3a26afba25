// SPDX-License-Identifier: Apache-2.0
// Sends denied, audited and logged flows to the journal and to `trirectl flows`. Keeps the newest
// ones, and sends each to followers immediately.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "trireme/control/flow.hpp"
#include "trireme/control/flow_pairs.hpp"
#include "trireme/control/server.hpp"

namespace trireme::daemon {

class FlowFeed {
 public:
  /// Adds a flow, reported by a rule, by the gate or by a handshake, unless it is another report of
  /// a flow that was added a moment ago.
  void take(policy::Flow flow);
  /// The policy in force, whose digest flows get from now on.
  void set_policy(const policy::Policy& policy);
  /// Answers the method `flows`. Network names in `params` refer to `policy`.
  void answer(const nlohmann::json& params, const policy::Policy& policy,
              const control::Reply& reply);

  /// A verdict ("allow", "deny", "audit") and its cause: "rule", "no_rule", "quarantined", or the
  /// reason that the handshake gave.
  using Key = std::pair<std::string, std::string>;
  /// The number of flows so far.
  [[nodiscard]] const std::map<Key, std::uint64_t>& counts() const { return counts_; }
  [[nodiscard]] const control::FlowStore& store() const { return store_; }
  /// Flows left out of the journal by the rate limit.
  [[nodiscard]] std::uint64_t suppressed() const { return suppressed_; }

 private:
  struct Follower {
    control::Reply reply;
    control::FlowFilter filter;
  };
  void send_to_followers(const policy::Flow& flow);

  std::chrono::system_clock::time_point started_ = std::chrono::system_clock::now();
  control::FlowPairs pairs_;
  control::FlowStore store_;
  std::string policy_;  // as in policy::Flow
  std::vector<Follower> followers_;
  std::map<Key, std::uint64_t> counts_;
  std::uint64_t suppressed_ = 0;
};

}  // namespace trireme::daemon
