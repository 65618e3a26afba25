// SPDX-License-Identifier: Apache-2.0
// Sends denied, audited and logged flows to the journal and to `trirectl flows`. Keeps the newest
// ones, and sends each to followers immediately.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "audit_summary.hpp"
#include "trireme/control/flow.hpp"
#include "trireme/control/server.hpp"

namespace trireme::daemon {

class FlowFeed {
 public:
  /// Adds a flow, reported by a rule, by the gate or by a handshake.
  void take(policy::Flow flow);
  /// Logs the audited flows that were repeated, one line for each kind whose window has ended.
  void log_repeated(AuditSummary::Clock::time_point now);
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
  void log(const policy::Flow& flow, std::uint64_t repeated);

  control::FlowStore store_;
  AuditSummary audits_;
  std::vector<Follower> followers_;
  std::map<Key, std::uint64_t> counts_;
  std::uint64_t suppressed_ = 0;
};

}  // namespace trireme::daemon
