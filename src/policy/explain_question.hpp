// SPDX-License-Identifier: Apache-2.0
// What explanations ask the rules about a flow.
#pragma once

#include <string>
#include <vector>

#include "trireme/policy/explain.hpp"

namespace trireme::policy {

/// A flow, with its endpoints as the end that decides takes them, and as people read them.
struct Question {
  const Policy& policy;
  View from, to;
  std::string from_text, to_text;
  std::uint8_t protocol = 0;
  std::uint16_t port = 0;
};

/// Whether the rule applies to the flow.
[[nodiscard]] bool applies(const Question& q, const Rule& rule);
/// As Explanation::closest.
[[nodiscard]] std::vector<NearMiss> closest_rules(const Question& q);
/// As Explanation::reason.
[[nodiscard]] std::string reason_text(const Question& q, const Decision& decision);

}  // namespace trireme::policy
