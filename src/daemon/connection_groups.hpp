// SPDX-License-Identifier: Apache-2.0
// Counts open connections that are identical.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "connections.hpp"
#include "trireme/enforcer/enforcer.hpp"

namespace trireme::daemon {

/// One end of a connection. Of a workload, `address` and `has_token` are not set unless everything
/// is asked for, or the address because the connection is unproved.
struct ConnectionEnd {
  policy::Number number = abi::kNoNumber;
  policy::Address address;
  std::string cgroup;      // FlowEnd::cgroup
  bool has_token = false;  // as in policy::SeenEnd
  auto operator<=>(const ConnectionEnd&) const = default;
};

/// Connections with equal keys are counted together.
struct ConnectionKind {
  ConnectionEnd from;
  ConnectionEnd to;
  std::uint8_t protocol = 0;
  std::uint16_t port = 0;
  bool is_local = false;
  bool is_guess = false;
  bool is_unproved = false;  // as in policy::SeenFlow; then workloads have addresses
  /// As the label of its conntrack entry says; nullopt: the policy in force decides.
  std::optional<policy::Verdict> verdict;
  auto operator<=>(const ConnectionKind&) const = default;
};

/// Whether this is the number of a workload, of this host or another.
[[nodiscard]] constexpr bool is_workload(policy::Number number) {
  return number >= abi::kFirstNumber;
}

class ConnectionGroups {
 public:
  ConnectionGroups(Daemon& daemon, Scope scope)
      : daemon_(daemon), wants_everything_(scope == Scope::everything) {}

  /// Counts a connection, unless it is out of scope or about to end. `enforcer` knows the DNS names
  /// of addresses; it must outlive this. `client_port`: of an open TCP connection.
  void add(ConnectionKind kind, const enforcer::Enforcer& enforcer,
           std::optional<std::uint16_t> client_port);
  void add_unknown() { unknown_++; }
  [[nodiscard]] Connections result() const;

 private:
  struct Group {
    std::uint64_t count = 0;
    const enforcer::Enforcer* enforcer = nullptr;
    std::vector<std::uint16_t> client_ports;
  };

  [[nodiscard]] policy::FlowEnd described(const ConnectionEnd& end, const ConnectionEnd& other,
                                          const enforcer::Enforcer& enforcer,
                                          bool with_address) const;

  Daemon& daemon_;
  bool wants_everything_;
  std::map<ConnectionKind, Group> groups_;
  std::chrono::system_clock::time_point now_ = std::chrono::system_clock::now();
  std::uint64_t uncounted_ = 0;  // because there are too many kinds
  std::uint64_t unknown_ = 0;    // Connections::unknown
  bool complete_ = true;
};

}  // namespace trireme::daemon
