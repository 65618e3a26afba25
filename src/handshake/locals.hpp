// SPDX-License-Identifier: Apache-2.0
// The workloads of this host, and the enforcement points that each of them is in.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>

#include "trireme/handshake/engine.hpp"

namespace trireme::handshake {

/// Not thread-safe.
class Locals {
 public:
  using Identity = std::shared_ptr<const LocalIdentity>;

  void add(Identity identity, PointId point) {
    const policy::Number number = identity->number;
    by_number_[number] = std::move(identity);
    enter(point, number);
  }
  void enter(PointId point, policy::Number number) { there_[key(point, number)]++; }
  void leave(PointId point, policy::Number number) {
    const auto known = there_.find(key(point, number));
    if (known != there_.end() && --known->second == 0) {
      there_.erase(known);
    }
  }
  void remove(policy::Number number) { by_number_.erase(number); }

  /// The workload with this number, at any point; null: none.
  [[nodiscard]] Identity find(policy::Number number) const {
    const auto known = by_number_.find(number);
    return known == by_number_.end() ? nullptr : known->second;
  }
  /// Null also if the workload is not at this point.
  [[nodiscard]] Identity find(PointId point, policy::Number number) const {
    return there_.contains(key(point, number)) ? find(number) : nullptr;
  }

 private:
  [[nodiscard]] static std::uint64_t key(PointId point, policy::Number number) {
    return std::uint64_t{number} << 32U | point;
  }
  std::unordered_map<policy::Number, Identity> by_number_;
  std::unordered_map<std::uint64_t, std::size_t> there_;  // number of cgroups by point and number
};

}  // namespace trireme::handshake
