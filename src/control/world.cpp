// SPDX-License-Identifier: Apache-2.0
#include "trireme/control/world.hpp"

#include <fmt/format.h>
#include <ifaddrs.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "trireme/control/flow.hpp"

namespace trireme::control {
namespace {

using nlohmann::json;
using policy::World;

constexpr std::array<const char*, 3> kStates = {"enforced", "quarantined", "unenforced"};

json resident_json(const World::Resident& resident) {
  json object = {{"name", resident.name},
                 {"identity", resident.number},
                 {"state", kStates.at(static_cast<std::size_t>(resident.state))},
                 {"reason", resident.reason},
                 {"networks", resident.networks},
                 {"unprovable", resident.unprovable}};
  put_labels(object, resident.labels);
  return object;
}

json named_json(std::size_t network, const policy::Address& address,
                const std::vector<std::string>& names) {
  return {{"network", network}, {"address", address.text()}, {"names", names}};
}

/// The functions below throw what nlohmann::json throws, or std::out_of_range, for anything else
/// than what this file writes.
policy::Address address_of(const json& value) {
  return policy::Address::parse(value.get<std::string>()).value();
}

World::Resident resident_of(const json& object) {
  World::Resident resident;
  resident.name = object.at("name").get<std::string>();
  resident.number = object.at("identity").get<std::uint64_t>();
  const auto* state =
      std::find(kStates.begin(), kStates.end(), object.at("state").get<std::string>());
  if (state == kStates.end()) {
    throw std::out_of_range("state");
  }
  resident.state = static_cast<World::State>(state - kStates.begin());
  resident.reason = object.at("reason").get<std::string>();
  resident.networks = object.at("networks").get<std::vector<std::size_t>>();
  resident.unprovable = object.at("unprovable").get<std::string>();
  resident.labels = labels_of(object).value();
  return resident;
}

void read_head(const json& result, World& world) {
  world.networks.clear();
  for (const json& object : result.at("networks")) {
    World::Network network{.name = object.at("name").get<std::string>(), .addresses = {}};
    for (const json& address : object.at("addresses")) {
      network.addresses.push_back(
          {address_of(address.at("address")), address.at("length").get<std::uint8_t>()});
    }
    world.networks.push_back(std::move(network));
  }
  (void)world.networks.at(0);
  for (const json& prefix : result.at("peers")) {
    world.peers.push_back(policy::Prefix::parse(prefix.get<std::string>()).value());
  }
  world.has_handshakes = result.at("handshakes").get<bool>();
  for (const json& seen : result.at("seen_names")) {
    world.seen_names.emplace_back(seen.at("name").get<std::string>(),
                                  address_of(seen.at("address")));
  }
}

void read_event(const json& event, World& world) {
  if (event.contains("resident")) {
    World::Resident resident = resident_of(event.at("resident"));
    std::ranges::for_each(resident.networks,
                          [&](std::size_t network) { (void)world.networks.at(network); });
    world.residents.push_back(std::move(resident));
    return;
  }
  const json& named = event.at("named");
  world.networks.at(named.at("network").get<std::size_t>()).named[address_of(named.at("address"))] =
      named.at("names").get<std::vector<std::string>>();
}

}  // namespace

std::function<std::optional<json>()> world_events(std::shared_ptr<const World> world) {
  struct Place {
    std::size_t resident = 0;
    std::size_t network = 0;
    std::optional<policy::Address> address;  // the last one sent
  };
  return [world = std::move(world), at = Place{}]() mutable -> std::optional<json> {
    if (at.resident < world->residents.size()) {
      return json{{"resident", resident_json(world->residents[at.resident++])}};
    }
    for (; at.network < world->networks.size(); ++at.network, at.address.reset()) {
      const auto& named = world->networks[at.network].named;
      const auto next = at.address ? named.upper_bound(*at.address) : named.begin();
      if (next != named.end()) {
        at.address = next->first;
        return json{{"named", named_json(at.network, next->first, next->second)}};
      }
    }
    return std::nullopt;
  };
}

json world_result(const World& world) {
  json networks = json::array();
  for (const World::Network& network : world.networks) {
    json addresses = json::array();
    for (const World::Interface& interface : network.addresses) {
      addresses.push_back({{"address", interface.address.text()}, {"length", interface.length}});
    }
    networks.push_back({{"name", network.name}, {"addresses", std::move(addresses)}});
  }
  json peers = json::array();
  for (const policy::Prefix& prefix : world.peers) {
    peers.push_back(prefix.text());
  }
  json seen = json::array();
  for (const auto& [name, address] : world.seen_names) {
    seen.push_back({{"name", name}, {"address", address.text()}});
  }
  return {{"networks", std::move(networks)},
          {"peers", std::move(peers)},
          {"handshakes", world.has_handshakes},
          {"seen_names", std::move(seen)}};
}

Result<World> WorldReader::read(const json& result) const {
  World world;
  try {
    read_head(result, world);
    for (const json& event : events_) {
      read_event(event, world);
    }
  } catch (const std::exception& error) {
    return fail(fmt::format("cannot read what the daemon knows about this host: {}", error.what()),
                "trirectl and triremed may have different versions");
  }
  return world;
}

World world_without_daemon() {
  World world;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) {
    return world;
  }
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr) {
      continue;
    }
    policy::Address address;
    if (entry->ifa_addr->sa_family == AF_INET) {
      const auto* v4 = reinterpret_cast<const sockaddr_in*>(entry->ifa_addr);
      std::memcpy(address.bytes.data(), &v4->sin_addr, sizeof v4->sin_addr);
    } else if (entry->ifa_addr->sa_family == AF_INET6) {
      const auto* v6 = reinterpret_cast<const sockaddr_in6*>(entry->ifa_addr);
      address.family = policy::Address::Family::v6;
      std::memcpy(address.bytes.data(), &v6->sin6_addr, sizeof v6->sin6_addr);
    } else {
      continue;
    }
    world.networks.front().addresses.push_back(
        {address, static_cast<std::uint8_t>(address.size() * 8)});
  }
  ::freeifaddrs(list);
  return world;
}

}  // namespace trireme::control
