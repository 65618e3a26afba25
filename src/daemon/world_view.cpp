// SPDX-License-Identifier: Apache-2.0
#include "world_view.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "trireme/points/network_names.hpp"
#include "workload_json.hpp"

namespace trireme::daemon {
namespace {

using policy::World;

World::State state_of(workload::State state) {
  switch (state) {
    case workload::State::enforced:
      return World::State::enforced;
    case workload::State::quarantined:
      return World::State::quarantined;
    case workload::State::unenforced:
      return World::State::unenforced;
  }
  return World::State::quarantined;
}

class WorldMaker {
 public:
  explicit WorldMaker(Daemon& daemon)
      : daemon_(daemon), names_(points::network_names(daemon.registry().all())) {}

  World make() {
    describe_host();
    for (const workload::Workload* workload : daemon_.registry().all()) {
      add(*workload);
    }
    for (const points::Point* point : daemon_.enforcement().all()) {
      world_.networks[index_of(point->network())].named = point->enforcer().all_names();
    }
    add_seen_names();
    return std::move(world_);
  }

 private:
  void describe_host() {
    const auto listed = daemon_.enforcement().host().addresses()->list();
    for (const kernel::InterfaceAddress& item :
         listed ? *listed : std::vector<kernel::InterfaceAddress>()) {
      world_.networks.front().addresses.push_back({item.address, item.length});
    }
    if (daemon_.settings().trust()->offered()) {
      world_.peers = daemon_.settings().host()->peers;
    }
    world_.has_handshakes = daemon_.tokens().verifier() != nullptr;
  }

  std::size_t index_of(const std::shared_ptr<const kernel::Netns>& network) {
    if (network == nullptr) {
      return 0;
    }
    const auto [found, is_new] = indices_.try_emplace(network->inode(), world_.networks.size());
    if (is_new) {
      const auto name = names_.find(network->inode());
      world_.networks.push_back(
          {.name = name != names_.end() ? name->second : points::network_name(network->inode()),
           .addresses = {}});
    }
    return found->second;
  }

  void add(const workload::Workload& workload) {
    World::Resident resident{.name = workload.name,
                             .labels = workload.labels,
                             .number = workload.number,
                             .state = state_of(workload.state),
                             .reason = quarantine_text(workload, daemon_.registry()),
                             .networks = {}};
    for (const workload::Place& place : workload.places) {
      resident.networks.push_back(index_of(place.network));
    }
    if (const Status provable = daemon_.tokens().check_labels(workload.labels); !provable) {
      resident.unprovable = provable.error().message;
    }
    if (!resident.networks.empty() && resident.networks.front() != 0) {
      World::Network& own = world_.networks[resident.networks.front()];
      for (const policy::Address& address : daemon_.docker().addresses_of(workload.container_id)) {
        own.addresses.push_back({address, static_cast<std::uint8_t>(address.size() * 8)});
      }
    }
    world_.residents.push_back(std::move(resident));
  }

  void add_seen_names() {
    std::set<std::pair<std::string, policy::Address>> seen;
    for (const control::FlowTally* tally :
         daemon_.flows().store().tallies({}, std::numeric_limits<std::size_t>::max())) {
      for (const policy::FlowEnd* end : {&tally->last.source, &tally->last.destination}) {
        for (const std::string& name : end->names) {
          if (end->address) {
            seen.emplace(name, *end->address);
          }
        }
      }
    }
    world_.seen_names.assign(seen.begin(), seen.end());
  }

  Daemon& daemon_;
  std::map<std::uint64_t, std::string> names_;
  std::map<std::uint64_t, std::size_t> indices_;  // into World::networks, by inode number
  World world_;
};

}  // namespace

World world_view(Daemon& daemon) {
  return WorldMaker(daemon).make();
}

}  // namespace trireme::daemon
