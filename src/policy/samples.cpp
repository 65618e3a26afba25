// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/samples.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "compile_tables.hpp"

namespace trireme::policy {

std::vector<Address> samples(const Policy& policy, std::size_t network) {
  std::vector<std::size_t> every(policy.networks.size());
  std::iota(every.begin(), every.end(), std::size_t{0});
  std::map<std::vector<std::size_t>, std::uint32_t> classes;
  std::set<std::uint32_t> wanted;
  const auto class_of = [&](const std::vector<std::size_t>& members) {
    const auto klass = classes.try_emplace(members, classes.size()).first->second;
    if (std::ranges::binary_search(members, network)) {
      wanted.insert(klass);
    }
    return klass;
  };
  std::vector<Address> result;
  for (const auto family : {Address::Family::v4, Address::Family::v6}) {
    for (const AddressInterval& interval : partition_addresses(policy, every, family, class_of)) {
      if (wanted.erase(interval.address_class) > 0) {
        result.push_back(interval.first);
      }
    }
  }
  return result;
}

}  // namespace trireme::policy
