// Flows that were refused or are to be logged, to the journal and to `trirectl flows`: the newest are kept, followers hear of each at once.
#pragma once

#include <systemd/sd-event.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "trireme/control/server.hpp"
#include "trireme/enforcer/flow_log.hpp"

namespace trireme::daemon {

class FlowFeed {
 public:
  /// One more flow, from rules or from a handshake.
  void take(const enforcer::FlowRecord& record);
  /// Method `flows`: the newest `limit`, and then each as it happens where `follow`.
  void answer(std::size_t limit, bool follow, const control::Reply& reply);

  /// A verdict ("allow", "deny", "audit") and why: "rule", "no_rule", "quarantined", or the handshake's reason.
  using Key = std::pair<std::string, std::string>;
  /// Flows told so far.
  [[nodiscard]] const std::map<Key, std::uint64_t>& counts() const { return counts_; }
  /// Journal lines held back.
  [[nodiscard]] std::uint64_t suppressed() const { return suppressed_; }

 private:
  [[nodiscard]] bool may_log();

  std::deque<nlohmann::json> recent_;
  std::vector<control::Reply> followers_;
  std::map<Key, std::uint64_t> counts_;
  double allowance_ = 0;  // journal lines
  std::chrono::steady_clock::time_point refilled_;
  std::uint64_t suppressed_ = 0;
  std::uint64_t told_suppressed_ = 0;
  std::chrono::steady_clock::time_point suppressions_told_;
};

}  // namespace trireme::daemon
