// SPDX-License-Identifier: Apache-2.0
// Ports and addresses cut into intervals that every rule treats alike.
#pragma once

#include <functional>
#include <vector>

#include "trireme/policy/compile.hpp"

namespace trireme::policy {

struct PortPartition {
  std::vector<PortInterval>
      intervals;  // classes from 1 on; what no set covers is class 0 and has no interval
  std::uint32_t classes = 1;                               // how many, class 0 counted
  std::vector<std::vector<std::uint32_t>> classes_of_set;  // for each set, sorted
};

/// Each set is the port list of some rules. Intervals that lie in the same sets share a class,
/// whatever their protocol.
[[nodiscard]] PortPartition partition_ports(const std::vector<std::vector<PortRange>>& sets);

/// Cuts a whole family by the prefixes of these networks (indices into `policy.networks`).
/// `class_of` gives the class of addresses that lie in exactly the networks named; neighbours of
/// one class are one interval.
[[nodiscard]] std::vector<AddressInterval> partition_addresses(
    const Policy& policy, const std::vector<std::size_t>& networks, Address::Family family,
    const std::function<std::uint32_t(const std::vector<std::size_t>&)>& class_of);

/// Those of `networks` that have the address by a CIDR.
[[nodiscard]] std::vector<std::size_t> networks_at(const Policy& policy,
                                                   const std::vector<std::size_t>& networks,
                                                   const Address& address);

}  // namespace trireme::policy
