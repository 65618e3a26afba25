// SPDX-License-Identifier: Apache-2.0
// The contents of a policy file of the original Trireme, in either of its forms: TagSelectors, or
// Dependencies and ExposureRules; one Address, Port and Protocol per ACL, or lists of them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/base/result.hpp"

namespace trireme::config {

/// Bits of Policy.Action.
struct OriginalAction {
  unsigned bits = 0;
  [[nodiscard]] bool accepts() const { return (bits & 1U) != 0; }
  [[nodiscard]] bool rejects() const { return (bits & 2U) != 0; }
  [[nodiscard]] bool encrypts() const { return (bits & 4U) != 0; }
  [[nodiscard]] bool logs() const { return (bits & 8U) != 0; }
  [[nodiscard]] bool observes() const { return (bits & 16U) != 0; }
};

struct OriginalAcl {
  std::string place;  // position in the file: "Web.ApplicationACLs[0]"
  OriginalAction action;
  std::vector<std::string> addresses, ports, protocols;
};

struct OriginalClause {
  std::string key;
  std::string op;
  std::vector<std::string> values;
};

struct OriginalTagRule {
  std::string place;
  OriginalAction action;
  std::vector<OriginalClause> clauses;  // all must match
};

struct OriginalPolicy {
  std::string name;
  std::vector<OriginalAcl> application;                      // to endpoints without labels
  std::vector<OriginalAcl> network;                          // from endpoints without labels
  std::optional<std::vector<OriginalTagRule>> dependencies;  // to workloads
  std::vector<OriginalTagRule> exposures;  // from workloads; TagSelectors in the older form
};

/// Appends the positions of unknown keys to `unknown`. Errors contain the position, or line and
/// column of invalid JSON.
[[nodiscard]] Result<std::vector<OriginalPolicy>> read_original(std::string_view json,
                                                                std::vector<std::string>& unknown);

}  // namespace trireme::config
