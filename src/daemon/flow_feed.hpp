// SPDX-License-Identifier: Apache-2.0
// Sends denied, audited and logged flows to the journal and to `trirectl flows`, sampled flows to
// `trirectl flows --all` only. Keeps the newest ones, sends each to followers immediately, and
// counts them for each rule that has decided, and for each pair of identities.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "audit_summary.hpp"
#include "trireme/control/flow.hpp"
#include "trireme/control/flow_pairs.hpp"
#include "trireme/control/pair_totals.hpp"
#include "trireme/control/server.hpp"
#include "trireme/policy/rule_hits.hpp"

namespace trireme::daemon {

class FlowFeed {
 public:
  FlowFeed();
  /// Adds a flow, reported by a rule, by the gate or by a handshake, unless it is another report of
  /// a flow that was added a moment ago.
  void take(policy::Flow flow);
  /// The policy in force, whose digest flows get from now on.
  void set_policy(const policy::Policy& policy);
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
  /// Sampled flows so far.
  [[nodiscard]] std::uint64_t sampled() const { return sampled_; }
  /// Counters of the rules of the policy in force.
  [[nodiscard]] const policy::RuleHits& hits() const { return hits_; }
  /// Counts all flows by the identities of their ends; the method `traffic` adds open connections.
  [[nodiscard]] control::PairTotals& totals() { return totals_; }
  /// Flows left out of the journal by the rate limit.
  [[nodiscard]] std::uint64_t suppressed() const { return suppressed_; }

 private:
  struct Follower {
    control::Reply reply;
    control::FlowFilter filter;
    bool all = false;  // sampled flows too
  };
  void send_to_followers(const policy::Flow& flow);
  void log(const policy::Flow& flow, std::uint64_t repeated);

  std::chrono::system_clock::time_point started_ = std::chrono::system_clock::now();
  control::FlowPairs pairs_;
  control::FlowStore store_;
  control::FlowStore samples_;
  policy::RuleHits hits_;
  control::PairTotals totals_;
  std::string policy_;  // as in policy::Flow
  AuditSummary audits_;
  std::vector<Follower> followers_;
  std::map<Key, std::uint64_t> counts_;
  std::uint64_t sampled_ = 0;
  std::uint64_t suppressed_ = 0;
};

}  // namespace trireme::daemon
