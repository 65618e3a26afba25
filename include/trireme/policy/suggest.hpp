// SPDX-License-Identifier: Apache-2.0
// From flows that a policy refuses, or would refuse, to the fewest rules that allow them. Where a
// rule allows more, it says so.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "trireme/policy/policy.hpp"
#include "trireme/policy/seen.hpp"

namespace trireme::policy {

struct SuggestedNetwork {
  std::string name;
  std::vector<Prefix> cidrs;
};

struct SuggestedRule {
  std::string name;
  std::vector<std::string> from;  // as rules write them: "app=web", "@host", "@dns"
  std::vector<std::string> to;
  std::vector<PortRange> ports;
  std::uint64_t flows = 0;            // seen that need it
  std::string example;                // "web.scope (app=web) -> 10.0.0.53 udp/53"
  std::string last;                   // when the newest was seen
  std::vector<std::string> comments;  // where the rule allows more than was seen
};

struct Suggestion {
  std::vector<SuggestedNetwork> networks;
  std::vector<SuggestedRule> rules;
  std::vector<std::string> left_out;  // flows that no new rule can allow, and why
  std::uint64_t needed = 0;           // flows that the rules are for
  std::uint64_t allowed = 0;          // flows that the policy allows already

  /// For a file below policy.d; `context` is a line for its head.
  [[nodiscard]] std::string toml(const std::string& context) const;
};

/// `policy` is taken as enforced. `present` are the label sets of workloads that are there: a
/// selector is only made wider where it catches none of them beside those that were seen. Networks
/// of the policy are used where an address is in one.
[[nodiscard]] Suggestion suggest(const Policy& policy, const std::vector<SeenFlow>& flows,
                                 const std::vector<LabelSet>& present);

/// As a basic string of TOML, quotes included.
[[nodiscard]] std::string toml_string(std::string_view text);

}  // namespace trireme::policy
