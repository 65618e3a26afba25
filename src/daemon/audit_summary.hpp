// SPDX-License-Identifier: Apache-2.0
// Audited flows in the log: one line at once for each kind, then one line with a count for each
// five minutes in which it is repeated. In audit mode every connection may be a would-be refusal.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "trireme/policy/flow.hpp"

namespace trireme::daemon {

class AuditSummary {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::minutes kWindow{5};
  static constexpr std::size_t kMostKinds = 4096;
  static constexpr std::size_t kMostOfOwner = 128;  // owner: control::flow_owner()

  /// True if the flow is to be logged now: it is the first of its kind in this window, or there is
  /// no room to count it. Kinds are those of `trirectl flows --summary`.
  [[nodiscard]] bool take(const policy::Flow& flow, Clock::time_point now);

  struct Repeated {
    policy::Flow last;
    std::uint64_t count = 0;  // since the line before
  };
  /// The kinds whose window has ended and that were repeated in it; a new window begins for them.
  /// The others are forgotten.
  [[nodiscard]] std::vector<Repeated> due(Clock::time_point now);

 private:
  struct Kind {
    policy::Flow last;
    std::string owner;
    Clock::time_point begin;
    std::uint64_t count = 0;
  };
  std::map<std::string, Kind> kinds_;
  std::map<std::string, std::size_t> of_owner_;  // how many of kinds_
};

}  // namespace trireme::daemon
