// SPDX-License-Identifier: Apache-2.0
#include "trireme/points/network_names.hpp"

#include <fmt/format.h>

namespace trireme::points {

std::string network_name(std::uint64_t inode) {
  return fmt::format("net:[{}]", inode);
}

std::map<std::uint64_t, std::string> network_names(
    const std::vector<const workload::Workload*>& workloads) {
  std::map<std::uint64_t, std::string> names;
  for (const workload::Workload* workload : workloads) {
    bool named = false;
    for (const workload::Place& place : workload->places) {
      if (place.network == nullptr || names.contains(place.network->inode())) {
        continue;
      }
      const std::uint64_t inode = place.network->inode();
      names[inode] = named ? workload->name + " " + network_name(inode) : workload->name;
      named = true;
    }
  }
  return names;
}

}  // namespace trireme::points
