// SPDX-License-Identifier: Apache-2.0
// Names of workloads, here and elsewhere, that are one number each in kernel sets and conntrack
// labels.
#pragma once

#include <mutex>
#include <optional>
#include <unordered_map>

#include "trireme/policy/compile.hpp"

namespace trireme::policy {

/// kFirstNumber to kLastNumber, none twice while it is in use, and as late as possible after.
/// Thread-safe.
class Numbers {
 public:
  /// One that nobody has; nullopt where all are in use.
  [[nodiscard]] std::optional<Number> take();
  /// This very one; false where it is out of range or in use.
  [[nodiscard]] bool take(Number number);
  /// One holder more of a number that is in use; false where nobody has it.
  [[nodiscard]] bool share(Number number);
  /// True where that was its last holder: others may get it from now on.
  bool give_back(Number number);

 private:
  std::mutex mutex_;
  std::unordered_map<Number, unsigned> used_;  // and how many have it
  Number last_ = kFirstNumber - 1;
};

}  // namespace trireme::policy
