// SPDX-License-Identifier: Apache-2.0
// Recognizes a second report of the same flow. A flow between two endpoints of this host is
// reported by both sides of its handshake; in audit mode, one within a network namespace is
// reported by the rules and by the gate.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>

#include "trireme/policy/flow.hpp"

namespace trireme::control {

/// Remembers the reports of the last two seconds. The first report of a flow has the verdicts of
/// all ends that are on this host, so that nothing has to wait for the second one.
class FlowPairs {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kWindow{2};

  /// `capacity`: reports that are remembered; beyond it the oldest one is forgotten. One owner
  /// (flow_owner(); all addresses outside this host together) has at most a sixteenth of it. A flow
  /// that is not remembered may appear twice; none is lost.
  explicit FlowPairs(std::size_t capacity = 4096) : capacity_(capacity) {}

  /// True if the other one of two reporters (both sides of a handshake; the rules and the gate) has
  /// reported a flow with these endpoints, protocol, port and verdict within kWindow. The same
  /// reporter's next report is another flow.
  [[nodiscard]] bool is_repeated(const policy::Flow& flow, Clock::time_point now);
  [[nodiscard]] std::size_t size() const { return reports_.size(); }

 private:
  struct Report {
    std::string key;
    std::string owner;
    Clock::time_point time;
    std::uint32_t reporters = 0;  // a bit for each policy::Reporter
  };
  using Reports = std::list<Report>;
  void forget(Reports::iterator report);
  void remember(std::string key, const policy::Flow& flow, Clock::time_point now);

  std::size_t capacity_;
  Reports reports_;  // oldest first
  std::unordered_map<std::string_view, Reports::iterator> by_key_;
  std::unordered_map<std::string, std::size_t> of_owner_;
};

}  // namespace trireme::control
