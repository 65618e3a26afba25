// SPDX-License-Identifier: Apache-2.0
#include "compile_tables.hpp"

#include <algorithm>
#include <map>
#include <optional>

namespace trireme::policy {
namespace {

// The sets (or networks) that cover the current point of a sweep. Counts, because one set may cover
// a point more than once.
class Active {
 public:
  void change(std::size_t member, int by) {
    const auto place = counts_.try_emplace(member, 0).first;
    place->second += by;
    if (place->second == 0) {
      counts_.erase(place);
    }
  }
  [[nodiscard]] std::vector<std::size_t> members() const {
    std::vector<std::size_t> members;
    for (const auto& [member, count] : counts_) {
      members.push_back(member);
    }
    return members;
  }

 private:
  std::map<std::size_t, int> counts_;
};

using Changes = std::vector<std::pair<std::size_t, int>>;

void apply(Active& active, const Changes& changes) {
  for (const auto& [member, by] : changes) {
    active.change(member, by);
  }
}

// The next or the previous address; nullopt at the end of the address family.
std::optional<Address> neighbor(Address address, bool next) {
  for (std::size_t i = address.size(); i-- > 0;) {
    const std::uint8_t limit = next ? 0xFF : 0;
    const bool carry = address.bytes[i] == limit;
    address.bytes[i] = static_cast<std::uint8_t>(address.bytes[i] + (next ? 1 : 0xFF));
    if (!carry) {
      return address;
    }
  }
  return std::nullopt;
}

// By protocol and port: the sets that begin (+1) or end (-1) there. 65536 ends the last range.
using PortChanges = std::map<std::uint8_t, std::map<std::uint32_t, Changes>>;

PortChanges port_changes(const std::vector<std::vector<PortRange>>& sets) {
  PortChanges changes;
  for (std::size_t set = 0; set < sets.size(); ++set) {
    for (const PortRange& range : sets[set]) {
      if (range.first <= range.last) {
        changes[range.protocol][range.first].emplace_back(set, 1);
        changes[range.protocol][range.last + 1U].emplace_back(set, -1);
      }
    }
  }
  return changes;
}

void append(std::vector<PortInterval>& intervals, const PortRange& range,
            std::uint32_t port_class) {
  if (!intervals.empty()) {
    PortInterval& last = intervals.back();
    if (last.port_class == port_class && last.range.protocol == range.protocol &&
        last.range.last + 1U == range.first) {
      last.range.last = range.last;
      return;
    }
  }
  intervals.push_back({range, port_class});
}

}  // namespace

PortPartition partition_ports(const std::vector<std::vector<PortRange>>& sets) {
  PortPartition result;
  result.classes_of_set.resize(sets.size());
  std::map<std::vector<std::size_t>, std::uint32_t> classes = {{{}, 0}};
  const auto class_of = [&](const std::vector<std::size_t>& members) {
    const auto [place, fresh] = classes.try_emplace(members, result.classes);
    if (fresh) {
      for (const std::size_t set : members) {
        result.classes_of_set[set].push_back(result.classes);
      }
      ++result.classes;
    }
    return place->second;
  };
  for (const auto& [protocol, changes] : port_changes(sets)) {
    Active active;
    for (auto change = changes.begin(); std::next(change) != changes.end(); ++change) {
      apply(active, change->second);
      const std::uint32_t port_class = class_of(active.members());
      if (port_class != 0) {
        const PortRange range{protocol, static_cast<std::uint16_t>(change->first),
                              static_cast<std::uint16_t>(std::next(change)->first - 1)};
        append(result.intervals, range, port_class);
      }
    }
  }
  return result;
}

std::vector<AddressInterval> partition_addresses(
    const Policy& policy, const std::vector<std::size_t>& networks, Address::Family family,
    const std::function<std::uint32_t(const std::vector<std::size_t>&)>& class_of) {
  Address first;
  first.family = family;
  std::map<Address, Changes> changes = {{first, {}}};
  for (const std::size_t network : networks) {
    for (const Prefix& cidr : policy.networks[network].cidrs) {
      if (cidr.address.family != family) {
        continue;
      }
      changes[cidr.address].emplace_back(network, 1);
      if (const auto after = neighbor(cidr.last(), true)) {
        changes[*after].emplace_back(network, -1);
      }
    }
  }
  std::vector<AddressInterval> intervals;
  Active active;
  for (const auto& [address, change] : changes) {
    apply(active, change);
    const std::uint32_t address_class = class_of(active.members());
    if (!intervals.empty() && intervals.back().address_class == address_class) {
      continue;
    }
    if (!intervals.empty()) {
      intervals.back().last = *neighbor(address, false);
    }
    intervals.push_back({address, {}, address_class});
  }
  intervals.back().last = Prefix{first, 0}.last();
  return intervals;
}

std::vector<std::size_t> networks_at(const Policy& policy, const std::vector<std::size_t>& networks,
                                     const Address& address) {
  std::vector<std::size_t> result;
  std::ranges::copy_if(networks, std::back_inserter(result), [&](std::size_t network) {
    return std::ranges::any_of(policy.networks[network].cidrs,
                               [&](const Prefix& cidr) { return cidr.contains(address); });
  });
  return result;
}

}  // namespace trireme::policy
