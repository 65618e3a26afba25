// SPDX-License-Identifier: Apache-2.0
// Flows that were seen, many of a kind together: what suggestions, diffs and graphs are made from.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "trireme/policy/evaluate.hpp"
#include "trireme/policy/names.hpp"

namespace trireme::policy {

struct SeenEnd {
  std::optional<LabelSet> labels;  // of a workload
  std::string workload;            // the name of one that was seen; may be empty
  bool host = false;               // without labels: a process of this host; else a peer elsewhere
  std::optional<Address> address;
  std::vector<std::string> names = {};  // DNS names that the address had, in lower case

  /// `named` are the networks of a policy that the names are in; not owned.
  [[nodiscard]] Endpoint endpoint(std::span<const std::size_t> named = {}) const;
  [[nodiscard]] std::vector<std::size_t> networks(const NameIndex& index) const;
  /// "app=web", "@host", "10.0.0.53"
  [[nodiscard]] std::string text() const;
};

struct SeenFlow {
  SeenEnd from;
  SeenEnd to;
  std::uint8_t protocol = 0;
  std::uint16_t port = 0;
  std::uint64_t count = 1;
  Verdict verdict = Verdict::allow;  // when it was seen
  std::string last;                  // time, as it is told; may be empty
};

/// What the policy says of it; `names` is the policy's index.
[[nodiscard]] Decision judge(const Policy& policy, const NameIndex& names, const SeenFlow& flow);

}  // namespace trireme::policy
