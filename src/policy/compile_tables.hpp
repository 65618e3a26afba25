// SPDX-License-Identifier: Apache-2.0
// Partitions ports and addresses into intervals within which no rule makes a difference.
#pragma once

#include <functional>
#include <vector>

#include "trireme/policy/compile.hpp"

namespace trireme::policy {

struct PortPartition {
  std::vector<PortInterval>
      intervals;  // classes from 1 on; ports that no set covers are in class 0, without an interval
  std::uint32_t classes = 1;                               // number of classes, including class 0
  std::vector<std::vector<std::uint32_t>> classes_of_set;  // by set; sorted
};

/// Each set is the port list of some rules. Intervals covered by the same sets share a class, even
/// if their protocols differ.
[[nodiscard]] PortPartition partition_ports(const std::vector<std::vector<PortRange>>& sets);

/// Partitions an address family by the prefixes of these networks (indices into `policy.networks`).
/// `class_of` returns the class of addresses that are in exactly the given networks. Adjacent
/// intervals of one class are joined.
[[nodiscard]] std::vector<AddressInterval> partition_addresses(
    const Policy& policy, const std::vector<std::size_t>& networks, Address::Family family,
    const std::function<std::uint32_t(const std::vector<std::size_t>&)>& class_of);

/// Those of `networks` that contain the address by a CIDR.
[[nodiscard]] std::vector<std::size_t> networks_at(const Policy& policy,
                                                   const std::vector<std::size_t>& networks,
                                                   const Address& address);

}  // namespace trireme::policy
