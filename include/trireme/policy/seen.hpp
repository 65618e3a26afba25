// Flows that were seen, many of a kind together: what suggestions, diffs and graphs are made from.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "trireme/policy/evaluate.hpp"

namespace trireme::policy {

struct SeenEnd {
  std::optional<LabelSet> labels;  // of a workload
  std::string workload;            // the name of one that was seen; may be empty
  bool host = false;               // without labels: a process of this host; else a peer elsewhere
  std::optional<Address> address;

  [[nodiscard]] Endpoint endpoint() const;
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

}  // namespace trireme::policy
