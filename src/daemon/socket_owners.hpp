// SPDX-License-Identifier: Apache-2.0
// Which workload, unit or container the sockets of this host belong to, by their cgroups.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "sockets_here.hpp"
#include "trireme/enforcer/local_policy.hpp"
#include "trireme/kernel/cgroup.hpp"

namespace trireme::daemon {

class SocketOwners {
 public:
  struct Owner {
    policy::Number number = abi::kHost;
    /// The cgroup of its unit or container if it is no workload and that was asked for.
    std::string cgroup;
  };

  /// `numbers` are those of the gate. Reads the cgroups that exist now.
  SocketOwners(const kernel::CgroupTree& tree, enforcer::LocalPolicy::Owners numbers,
               bool with_cgroups);

  /// The index of the owner of a cgroup's sockets. nullopt if it is not known: a process has closed
  /// the socket (0), or the cgroup is gone and has no number.
  [[nodiscard]] std::optional<std::size_t> find(std::uint64_t cgroup);
  [[nodiscard]] const Owner& operator[](std::size_t index) const { return owners_[index]; }

  void note_datagram_sockets(const std::vector<kernel::InetSocket>& sockets, std::uint64_t network);
  /// The owner of the UDP socket at this address; null if it is not known, or several share it.
  [[nodiscard]] const Owner* of_datagrams(std::uint64_t network, const policy::Address& address,
                                          std::uint16_t port) const;

 private:
  enforcer::LocalPolicy::Owners numbers_;
  bool with_cgroups_;
  std::unordered_map<std::uint64_t, std::string> paths_;  // of all cgroups, by id
  std::vector<Owner> owners_;
  std::unordered_map<std::uint64_t, std::optional<std::size_t>> by_cgroup_;
  std::map<std::tuple<std::uint64_t, policy::Address, std::uint16_t>, std::optional<std::size_t>>
      datagrams_;  // by network namespace, address and port
};

}  // namespace trireme::daemon
