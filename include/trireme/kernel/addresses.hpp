// SPDX-License-Identifier: Apache-2.0
// The addresses of a network namespace and notifications of their changes, through rtnetlink(7).
#pragma once

#include <cstdint>
#include <vector>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"
#include "trireme/policy/address.hpp"

namespace trireme::kernel {

struct InterfaceAddress {
  policy::Address address;
  std::uint8_t length = 0;   // bits of the on-link prefix
  std::uint32_t device = 0;  // ifindex; 1 is lo
  auto operator<=>(const InterfaceAddress&) const = default;
};

class AddressWatch {
 public:
  /// Watches the current network namespace. Errors: no netlink socket.
  [[nodiscard]] static Result<AddressWatch> open();
  [[nodiscard]] int fd() const { return events_.get(); }
  /// All current addresses, sorted, including those of lo and link-local ones. Errors: netlink
  /// fails; the list changed while it was read, several times in a row.
  [[nodiscard]] Result<std::vector<InterfaceAddress>> list();
  /// Reads all pending notifications (RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR). Returns true if
  /// addresses may have changed, also if the kernel dropped notifications. Never blocks.
  [[nodiscard]] bool drain();

 private:
  AddressWatch(Fd events, Fd requests)
      : events_(std::move(events)), requests_(std::move(requests)) {}
  Fd events_;
  Fd requests_;
};

}  // namespace trireme::kernel
