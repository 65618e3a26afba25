// SPDX-License-Identifier: Apache-2.0
// Sends complete IP packets, headers included, in the network namespace in which it was opened.
#pragma once

#include <cstdint>
#include <span>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"
#include "trireme/policy/address.hpp"

namespace trireme::kernel {

class RawSender {
 public:
  /// Opens raw sockets of both families with IP_HDRINCL and IPV6_HDRINCL. They send with this
  /// SO_PRIORITY and receive nothing. Errors: no CAP_NET_RAW. A kernel without IPv6 is no error
  /// here; sending an IPv6 packet then is one.
  [[nodiscard]] static Result<RawSender> open(std::uint32_t priority);
  /// Sets the priority of later packets. Must not be called while another thread sends.
  [[nodiscard]] Status set_priority(std::uint32_t priority);
  /// Sends `packet` through `device` (ifindex; 0: as routed). `mark` and the packet's source
  /// address are used for routing. Never blocks; safe to call from several threads.
  [[nodiscard]] Status send(std::span<const std::uint8_t> packet,
                            const policy::Address& destination, std::uint32_t device,
                            std::uint32_t mark) const;

 private:
  RawSender(Fd four, Fd six, std::uint32_t priority)
      : four_(std::move(four)), six_(std::move(six)), priority_(priority) {}
  Fd four_;
  Fd six_;
  std::uint32_t priority_;
};

}  // namespace trireme::kernel
