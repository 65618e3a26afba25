// SPDX-License-Identifier: Apache-2.0
// Derives a small set of rules that allows flows which a policy denies. A rule that allows more
// than was seen says so in a comment.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "trireme/policy/policy.hpp"
#include "trireme/policy/published.hpp"
#include "trireme/policy/seen.hpp"

namespace trireme::policy {

/// Either addresses, or DNS names.
struct SuggestedNetwork {
  std::string name;
  std::vector<Prefix> cidrs;
  std::vector<std::string> names = {};
};

struct SuggestedRule {
  std::string name;
  std::vector<std::string> from;  // as rules write them: "app=web", "@host", "@dns"
  std::vector<std::string> to;
  std::vector<PortRange> ports;
  std::uint64_t flows = 0;            // flows seen that need it
  std::string example;                // "web.scope (app=web) -> 10.0.0.53 udp/53"
  std::string last;                   // when the newest was seen
  std::vector<std::string> comments;  // where the rule allows more than was seen
};

struct Suggestion {
  std::vector<SuggestedNetwork> networks;
  std::vector<SuggestedRule> rules;
  std::vector<std::string> left_out;  // flows that no new rule can allow, and why
  std::uint64_t needed = 0;           // flows that the rules allow
  std::uint64_t allowed = 0;          // flows that the policy allows already

  /// The text of a file for policy.d. `context` is a line for its head.
  [[nodiscard]] std::string toml(const std::string& context) const;
};

/// Treats `policy` as if in enforce mode. `present` are the label sets of current workloads:
/// several label sets are merged into one selector only if it matches no workload that was not
/// seen. An address in a network of the policy is suggested as that network; a destination that was
/// reached by a DNS name as a network of that name.
/// `published`: the published ports of current workloads, by label set. A rule that lets other
/// endpoints than workloads reach one is named after the port of the host.
using Published = std::map<LabelSet, std::set<PublishedPort>>;
[[nodiscard]] Suggestion suggest(const Policy& policy, const std::vector<SeenFlow>& flows,
                                 const std::vector<LabelSet>& present,
                                 const Published& published = {});

/// Encodes as a TOML basic string, quotes included. Control characters are escaped.
[[nodiscard]] std::string toml_string(std::string_view text);

}  // namespace trireme::policy
