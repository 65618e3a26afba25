// SPDX-License-Identifier: Apache-2.0
// Flows that were refused or are to be logged, to the journal and to `trirectl flows`: the newest
// are kept, followers hear of each at once.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "trireme/control/flow.hpp"
#include "trireme/control/server.hpp"

namespace trireme::daemon {

class FlowFeed {
 public:
  /// One more flow, from rules or from a handshake.
  void take(policy::Flow flow);
  /// Method `flows`. Names of networks in `params` are those of `policy`.
  void answer(const nlohmann::json& params, const policy::Policy& policy,
              const control::Reply& reply);

  /// A verdict ("allow", "deny", "audit") and why: "rule", "no_rule", "quarantined", or the
  /// handshake's reason.
  using Key = std::pair<std::string, std::string>;
  /// Flows told so far.
  [[nodiscard]] const std::map<Key, std::uint64_t>& counts() const { return counts_; }
  [[nodiscard]] const control::FlowStore& store() const { return store_; }
  /// Journal lines held back.
  [[nodiscard]] std::uint64_t suppressed() const { return suppressed_; }

 private:
  struct Follower {
    control::Reply reply;
    control::FlowFilter filter;
  };
  void tell_followers(const policy::Flow& flow);

  control::FlowStore store_;
  std::vector<Follower> followers_;
  std::map<Key, std::uint64_t> counts_;
  std::uint64_t suppressed_ = 0;
};

}  // namespace trireme::daemon
