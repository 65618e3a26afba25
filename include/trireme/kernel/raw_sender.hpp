// SPDX-License-Identifier: Apache-2.0
// Sends whole IP packets of our own making, in the network namespace in which it was opened.
#pragma once

#include <cstdint>
#include <span>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"
#include "trireme/policy/address.hpp"

namespace trireme::kernel {

class RawSender {
 public:
  /// Raw sockets of both families with IP_HDRINCL and IPV6_HDRINCL, and this SO_PRIORITY on all
  /// that they send; both receive nothing. Errors: no CAP_NET_RAW. IPv6 may be missing: sending
  /// such a packet is then an error.
  [[nodiscard]] static Result<RawSender> open(std::uint32_t priority);
  /// The priority of what is sent from here on; not while another thread sends.
  [[nodiscard]] Status set_priority(std::uint32_t priority);
  /// Sends `packet` through `device` (ifindex; 0: as routes say), routed by `mark` and by the
  /// packet's source as well. Never
  /// blocks; safe from several threads.
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
