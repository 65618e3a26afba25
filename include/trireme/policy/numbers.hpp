// SPDX-License-Identifier: Apache-2.0
// Allocates the numbers that identify workloads and remote identities in kernel sets and conntrack
// labels.
#pragma once

#include <mutex>
#include <optional>
#include <unordered_map>

#include "trireme/policy/compile.hpp"

namespace trireme::policy {

/// Numbers from abi::kFirstNumber to abi::kLastNumber with reference counts. A number that was
/// given back is reused as late as possible. Thread-safe.
class Numbers {
 public:
  /// Allocates a free number with one reference; nullopt if all are in use.
  [[nodiscard]] std::optional<Number> take();
  /// Allocates this number; false if it is out of range or in use.
  [[nodiscard]] bool take(Number number);
  /// Adds a reference to a number in use; false if it is free.
  [[nodiscard]] bool share(Number number);
  /// Drops a reference. True if it was the last one: the number is free now.
  bool give_back(Number number);

 private:
  std::mutex mutex_;
  std::unordered_map<Number, unsigned> used_;  // number -> references
  Number last_ = abi::kFirstNumber - 1;
};

}  // namespace trireme::policy
