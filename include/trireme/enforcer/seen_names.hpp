// SPDX-License-Identifier: Apache-2.0
// DNS names of addresses that no network of the policy names, for flows and suggestions. Nothing is
// decided by them: any name server that a workload asks can claim any of them. So each workload has
// its own, which only its flows show. Pure: does not use the kernel.
#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <string>

#include "trireme/abi/abi.hpp"
#include "trireme/policy/address.hpp"

namespace trireme::enforcer {

class SeenNames {
 public:
  /// Addresses of all askers. For a new one, the asker with most of them loses its oldest.
  static constexpr std::size_t kMost = 4096;

  /// Records an answer to `asker`: `name` has `address`. The newest name of an address counts.
  void add(abi::Number asker, const policy::Address& address, const std::string& name);
  /// Null if the asker knows none.
  [[nodiscard]] const std::string* find(abi::Number asker, const policy::Address& address) const;

 private:
  struct Share {
    std::map<policy::Address, std::string> names;
    std::deque<policy::Address> order;  // the keys of `names`, oldest first
  };
  std::map<abi::Number, Share> shares_;  // none is empty
  std::size_t size_ = 0;
};

}  // namespace trireme::enforcer
