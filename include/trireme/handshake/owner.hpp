// SPDX-License-Identifier: Apache-2.0
// Who something bounded is taken by: a workload of this host, or a remote host.
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
  std::uint64_t id = 0;  // number of the workload; IPv4 address, or IPv6 /64, in network order

  [[nodiscard]] static Owner workload(policy::Number number);
  [[nodiscard]] static Owner address(const policy::Address& address);
  [[nodiscard]] bool is_local() const { return kind == Kind::workload; }
  /// "10.0.0.1", "fd00::/64"; not of a workload.
  [[nodiscard]] std::string address_text() const;
  bool operator==(const Owner&) const = default;
};

struct Holder {
  Owner owner;
  std::uint64_t holds = 0;
  std::uint64_t of = 0;  // that all owners hold together
};

/// What had to give way in something bounded, and who held most of it the last time.
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
