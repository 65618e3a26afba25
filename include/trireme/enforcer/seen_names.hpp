// SPDX-License-Identifier: Apache-2.0
// DNS names of addresses that no network of the policy names, for flows and suggestions. Nothing is
// decided by them: any name server that a workload asks can claim any of them. Pure: does not use
// the kernel.
#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <string>

#include "trireme/policy/address.hpp"

namespace trireme::enforcer {

class SeenNames {
 public:
  static constexpr std::size_t kMost = 1024;  // addresses; the oldest is removed for a new one

  /// Records that `name` has `address`. The newest name of an address counts.
  void add(const policy::Address& address, const std::string& name);
  /// Null if the address has none.
  [[nodiscard]] const std::string* find(const policy::Address& address) const;

 private:
  std::map<policy::Address, std::string> names_;
  std::deque<policy::Address> order_;  // the keys of `names_`, oldest first
};

}  // namespace trireme::enforcer
