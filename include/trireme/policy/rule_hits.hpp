// SPDX-License-Identifier: Apache-2.0
// How many of the reported flows each rule has decided, so that rules that decide nothing are seen.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "trireme/policy/flow.hpp"

namespace trireme::policy {

class RuleHits {
 public:
  using Time = std::chrono::system_clock::time_point;

  struct Count {
    std::uint64_t hits = 0;
    std::optional<Time> last;  // of the newest hit
    Time since;                // when counting began
  };
  /// A rule of the policy in force, or what decides if no rule does.
  struct Line {
    std::string text;            // Rule::text(), "baseline" or "no rule"
    const Rule* rule = nullptr;  // points into the policy of use(); null for the last two
    Count count;
  };

  /// Counts for this policy from now on. A rule that an earlier policy had with the same action,
  /// mode, name, endpoints and ports keeps its count, wherever it is now.
  void use(const Policy& policy, Time now);
  /// Counts a flow for the rule that decided it (Flow::rule), else for the baseline or for "no
  /// rule", by Flow::reason. A flow that something else decided, or a rule that is not in force any
  /// more, is not counted.
  void count(const Flow& flow);
  /// The rules of `policy`, which was the argument of the last use(), in their order; then the
  /// baseline, then "no rule".
  [[nodiscard]] std::vector<Line> lines(const Policy& policy) const;

 private:
  std::map<std::string, Count> counts_;         // by content of the rule
  std::map<std::string, std::string> by_text_;  // Rule::text() -> content
};

}  // namespace trireme::policy
