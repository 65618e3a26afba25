// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "trireme/policy/compile.hpp"

namespace trireme::policy {
namespace {

template <typename Map>
std::optional<typename Map::mapped_type> find(const Map& map, const typename Map::key_type& key) {
  const auto found = map.find(key);
  return found == map.end() ? std::nullopt : std::optional(found->second);
}

bool same_group(const Elements& elements, Number from, Number to) {
  const auto source = find(elements.groups, from);
  const auto destination = find(elements.groups, to);
  return source && source == destination && elements.same.contains(*source);
}

std::optional<std::uint32_t> class_at(const std::vector<AddressInterval>& intervals,
                                      const Address& address) {
  const auto after = std::upper_bound(
      intervals.begin(), intervals.end(), address,
      [](const Address& value, const AddressInterval& interval) { return value < interval.first; });
  if (after == intervals.begin() || address > std::prev(after)->last) {
    return std::nullopt;
  }
  return std::prev(after)->address_class;
}

std::optional<std::uint32_t> class_of(const Tables& tables, const Elements& elements,
                                      const SetPeer& peer) {
  if (peer.number != 0) {
    return find(elements.classes, peer.number);
  }
  if (const auto named =
          find(peer.local ? elements.local_named : elements.remote_named, peer.address)) {
    return named;
  }
  const bool v4 = peer.address.family == Address::Family::v4;
  return class_at(
      peer.local ? (v4 ? tables.local4 : tables.local6) : (v4 ? tables.remote4 : tables.remote6),
      peer.address);
}

std::uint32_t port_class_of(const std::vector<PortInterval>& intervals, std::uint8_t protocol,
                            std::uint16_t port) {
  const auto after =
      std::upper_bound(intervals.begin(), intervals.end(), std::pair(protocol, port),
                       [](const auto& value, const auto& interval) {
                         return value < std::pair(interval.range.protocol, interval.range.first);
                       });
  return after != intervals.begin() && std::prev(after)->range.contains(protocol, port)
             ? std::prev(after)->port_class
             : 0;
}

// Compares keys and values, so that a key with a new value is both removed and added.
template <typename Map>
void subtract(const Map& left, const Map& right, Map& only_left) {
  std::set_difference(left.begin(), left.end(), right.begin(), right.end(),
                      std::inserter(only_left, only_left.end()));
}

void subtract(const Elements& left, const Elements& right, Elements& only_left) {
  subtract(left.groups, right.groups, only_left.groups);
  subtract(left.classes, right.classes, only_left.classes);
  subtract(left.same, right.same, only_left.same);
  subtract(left.pairs, right.pairs, only_left.pairs);
  subtract(left.outcomes, right.outcomes, only_left.outcomes);
}

}  // namespace

Delta difference(const Elements& before, const Elements& after) {
  Delta delta;
  subtract(before, after, delta.remove);
  subtract(after, before, delta.add);
  return delta;
}

std::optional<Outcome> judge(const Tables& tables, const Elements& elements, const SetPeer& from,
                             const SetPeer& to, std::uint8_t protocol, std::uint16_t port) {
  if (from.number != 0 && to.number != 0 && same_group(elements, from.number, to.number)) {
    return Outcome::allow;
  }
  const auto source = class_of(tables, elements, from);
  const auto destination = class_of(tables, elements, to);
  if (!source || !destination) {
    return std::nullopt;
  }
  const auto profile = find(elements.pairs, {*source, *destination});
  if (!profile) {
    return std::nullopt;
  }
  return find(elements.outcomes, {*profile, port_class_of(tables.ports, protocol, port)});
}

}  // namespace trireme::policy
