// SPDX-License-Identifier: Apache-2.0
// Flows that the daemon has logged in the journal, for `policy diff --seen`.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "trireme/base/result.hpp"
#include "trireme/policy/seen.hpp"

namespace trireme::cli {

struct JournalFlows {
  std::vector<policy::SeenFlow> flows;
  std::uint64_t left_out = 0;  // flows of more kinds than are kept
};

/// Identical flows are grouped. Only entries that journald attributes to trireme.service count:
/// any process can write entries with the same fields. Entries without TRIREME_FLOW, of version 0.2
/// and earlier, are skipped. Errors: the journal cannot be read.
[[nodiscard]] Result<JournalFlows> journal_flows(std::chrono::system_clock::time_point from,
                                                 std::chrono::system_clock::time_point to);

/// Adds a flow, as JSON (control/methods.hpp), to those that it is identical to. Returns false if
/// it is no flow that a policy can judge, or there are too many kinds. `times`: how often it was
/// seen.
class FlowGroups {
 public:
  bool add(const std::string& text, std::uint64_t times = 1);
  [[nodiscard]] JournalFlows take();

 private:
  static constexpr std::size_t kMost = 100'000;
  std::map<std::string, policy::SeenFlow> groups_;
  std::uint64_t left_out_ = 0;
};

}  // namespace trireme::cli
