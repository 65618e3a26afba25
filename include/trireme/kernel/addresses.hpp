// SPDX-License-Identifier: Apache-2.0
// The addresses of a network namespace and news of their changes, through rtnetlink(7).
#pragma once

#include <cstdint>
#include <vector>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"
#include "trireme/policy/address.hpp"

namespace trireme::kernel {

struct InterfaceAddress {
  policy::Address address;
  std::uint8_t length = 0;   // of the prefix that is on the link
  std::uint32_t device = 0;  // ifindex; 1 is lo
  auto operator<=>(const InterfaceAddress&) const = default;
};

class AddressWatch {
 public:
  /// Of the present network namespace. Errors: netlink.
  [[nodiscard]] static Result<AddressWatch> open();
  [[nodiscard]] int fd() const { return events_.get(); }
  /// Every address now, sorted; those of lo and link-local ones included.
  [[nodiscard]] Result<std::vector<InterfaceAddress>> list();
  /// Reads what has arrived; true where addresses may have changed (RTNLGRP_IPV4_IFADDR,
  /// RTNLGRP_IPV6_IFADDR), lost news included.
  [[nodiscard]] bool drain();

 private:
  AddressWatch(Fd events, Fd requests)
      : events_(std::move(events)), requests_(std::move(requests)) {}
  Fd events_;
  Fd requests_;
  std::uint32_t sequence_ = 0;
};

}  // namespace trireme::kernel
