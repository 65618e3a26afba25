// SPDX-License-Identifier: Apache-2.0
// The networks in which containers can be reached, as reported by their engines.
#include <spdlog/spdlog.h>

#include <algorithm>

#include "state.hpp"

namespace trireme::docker {

void Source::ask_for_networks(Engine& engine) {
  if (engine.asks_networks) {
    engine.ask_networks_again = true;
    return;
  }
  engine.ask_networks_again = false;
  engine.asks_networks =
      engine.link.networks([this, &engine](Result<std::vector<NetworkFacts>> answer) {
        networks_listed(engine, std::move(answer));
      });
}

void Source::networks_listed(Engine& engine, Result<std::vector<NetworkFacts>> answer) {
  engine.asks_networks = false;
  if (answer) {
    engine.networks = std::move(*answer);
    declare_soon();
  } else {
    spdlog::error("{}: cannot list its networks: {}", engine.link.name(), answer.error().text());
  }
  if (engine.ask_networks_again) {
    ask_for_networks(engine);
  }
}

/// Combines all requests of one iteration of the event loop into a single declare().
void Source::declare_soon() {
  declare_.request();
}

void Source::declare() {
  DeclaredNetworks now;
  for (const auto& engine : engines_) {
    const auto before = declared_.find(engine->link.socket());
    bool complete = true;
    std::vector<policy::Prefix> prefixes = networks_of(*engine, complete);
    if (!complete && before != declared_.end()) {
      prefixes.insert(prefixes.end(), before->second.begin(), before->second.end());
    }
    std::ranges::sort(prefixes);
    const auto [first, last] = std::ranges::unique(prefixes);
    prefixes.erase(first, last);
    if (!prefixes.empty()) {
      now[engine->link.socket()] = std::move(prefixes);
    }
  }
  if (now != declared_) {
    declared_ = std::move(now);
    if (on_declared) {
      on_declared(declared_);
    }
  }
}

/// Sets `complete` to false if the engine has not reported everything yet.
std::vector<policy::Prefix> Source::networks_of(const Engine& engine, bool& complete) const {
  std::vector<policy::Prefix> prefixes;
  std::set<std::string> names;
  complete = engine.networks.has_value();
  for (const auto& [id, container] : containers_) {
    if (container->engine != &engine) {
      continue;
    }
    const workload::Workload* workload = registry_.find_container(id);
    complete = complete && (!container->facts->is_running || container->facts->is_inspected);
    const bool is_reached = workload != nullptr && !workload->places.empty() &&
                            workload->places.front().network != nullptr;
    if (!is_reached) {
      continue;
    }
    names.insert(container->facts->networks.begin(), container->facts->networks.end());
    for (const policy::Address& address : container->facts->addresses) {
      prefixes.push_back({address, static_cast<std::uint8_t>(address.size() * 8)});
    }
  }
  for (const NetworkFacts& network :
       engine.networks ? *engine.networks : std::vector<NetworkFacts>()) {
    if (names.contains(network.name)) {
      prefixes.insert(prefixes.end(), network.prefixes.begin(), network.prefixes.end());
    }
  }
  return prefixes;
}

std::vector<policy::Address> Source::addresses_of(const std::string& container_id) const {
  const auto found = containers_.find(container_id);
  return found == containers_.end() || !found->second->facts ? std::vector<policy::Address>()
                                                             : found->second->facts->addresses;
}

}  // namespace trireme::docker
