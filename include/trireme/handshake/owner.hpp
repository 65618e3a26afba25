// SPDX-License-Identifier: Apache-2.0
// Owners of shares in bounded resources: workloads of this host and remote hosts.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "trireme/policy/address.hpp"
#include "trireme/policy/compile.hpp"

namespace trireme::handshake {

struct Owner {
  enum class Kind : std::uint8_t { workload, ipv4, ipv6 };
  Kind kind = Kind::workload;
  /// The number of the workload; or the IPv4 address or IPv6 /64 in network byte order.
  std::uint64_t id = 0;

  [[nodiscard]] static Owner workload(policy::Number number);
  [[nodiscard]] static Owner address(const policy::Address& address);
  [[nodiscard]] bool is_local() const { return kind == Kind::workload; }
  /// "10.0.0.1" or "fd00::/64". Not for a workload.
  [[nodiscard]] std::string address_text() const;
  bool operator==(const Owner&) const = default;
};

/// The owner that holds most of a bounded resource.
struct Holder {
  Owner owner;
  std::uint64_t holds = 0;
  std::uint64_t of = 0;  // held by all owners together
};

/// Evictions from a bounded resource, and its largest holder at the last one.
struct Crowding {
  std::uint64_t given_up = 0;
  Holder holder;
  std::chrono::milliseconds last{};

  void note(const Holder& largest, std::chrono::milliseconds now) {
    given_up++;
    holder = largest;
    last = now;
  }
};

}  // namespace trireme::handshake
