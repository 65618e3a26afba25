// SPDX-License-Identifier: Apache-2.0
// Determines the network namespace of a container, and searches for one that is still being
// created.
#include <spdlog/spdlog.h>

#include <algorithm>

#include "state.hpp"
#include "trireme/workload/network.hpp"

namespace trireme::docker {
namespace {

constexpr std::string_view kShared = "container:";
constexpr std::string_view kByPath = "ns:";  // Podman's; can name any namespace

/// The interval of the search by the age of the container's cgroup. The runtime's process enters
/// the namespace within milliseconds after the cgroup is created, and network setup takes tens of
/// milliseconds. A start that takes longer is blocked by something else, so it is checked less
/// often.
std::chrono::microseconds seek_interval(std::chrono::microseconds age) {
  using namespace std::chrono_literals;
  if (age < 1s) {
    return 2ms;
  }
  return age < 11s ? 20ms : 1s;
}

}  // namespace

/// True if a container with this NetworkMode gets a new network namespace. Otherwise it shares one,
/// or joins one that Docker did not create.
bool Source::has_own_network(const std::string& mode) {
  return !mode.empty() && mode != "host" && !mode.starts_with(kShared) &&
         !mode.starts_with(kByPath);
}

/// Adds newly known network namespaces of this start to Container::places.
Source::Network Source::network_of(Container& container) {
  take_recorded(container);
  take_declared(container);
  look_at_first_process(container);
  look_for_a_move(container);
  if (!container.places.empty()) {
    return container.places.front().network ? Network::other : Network::ours;
  }
  const Network by_mode = network_by_mode(container.facts->network_mode, 0);
  if (by_mode != Network::ours) {
    return find_network(container) ? Network::other : by_mode;
  }
  // Podman's list reports NetworkMode "host" for every container. If a process contradicts it, wait
  // for the inspection.
  const bool is_elsewhere = !container.cgroup.empty() &&
                            workload::find_entered_network(tree_, container.cgroup) != nullptr;
  if (is_elsewhere) {
    return Network::unknown;
  }
  container.places.push_back({});
  return Network::ours;
}

/// Adopts the network namespaces that an earlier daemon recorded.
void Source::take_recorded(Container& container) const {
  const workload::Workload* known = container.places.empty() ? registered(container) : nullptr;
  if (known != nullptr && !known->places.empty()) {
    container.places = known->places;
    container.is_decided = known->state == workload::State::enforced;
  }
}

/// The runtime keeps the network namespace open in a file (SandboxKey) that containers cannot
/// change. For a container that joined another one, it is the owner's namespace.
void Source::take_declared(Container& container) {
  const ContainerFacts& facts = *container.facts;
  if (container.is_declared) {
    return;
  }
  std::optional<workload::Place> declared;
  if (const auto kept = facts.pid == 0 || facts.sandbox.empty()
                            ? Result<std::shared_ptr<const kernel::Netns>>(nullptr)
                            : kernel::Netns::at(facts.sandbox);
      kept && *kept) {
    const bool is_ours = (*kept)->inode() == workload::own_network();
    declared = {is_ours ? nullptr : *kept, !is_ours && has_own_network(facts.network_mode)};
  } else if (facts.is_mode_sure && facts.network_mode == "host") {
    declared = workload::Place{};
  }
  if (!declared) {
    return;
  }
  container.is_declared = true;
  std::erase_if(container.places, [&](const workload::Place& place) {
    return workload::is_same_network(place.network, declared->network);
  });
  for (workload::Place& place : container.places) {
    place.whole_network = false;
  }
  container.places.insert(container.places.begin(), *declared);
}

/// Runs once per start, when the engine first reports the pid of the first process.
void Source::look_at_first_process(Container& container) {
  if (container.is_decided || !has_process(container)) {
    return;
  }
  const std::uint32_t pid = container.facts->pid;
  const auto seen = kernel::Netns::of_process(pid);
  const Container* owner = owner_of_network(container);
  if (owner != nullptr && owner->places.empty()) {
    retry_later(container.id);
    return;
  }
  if (!seen || !has_process(container)) {
    return;
  }
  const bool is_ours = (*seen)->inode() == workload::own_network();
  std::vector<workload::Place> found =
      owner == nullptr ? std::vector<workload::Place>() : owner->places;
  found.push_back({is_ours ? nullptr : *seen, false});
  for (const workload::Place& place : found) {
    const bool is_known = std::ranges::any_of(container.places, [&](const auto& other) {
      return workload::is_same_network(place.network, other.network);
    });
    if (!is_known) {
      container.places.push_back(
          {place.network, place.network && container.places.empty() &&
                              has_own_network(container.facts->network_mode)});
    }
  }
  container.is_decided = true;
}

/// Logs once per start if the first process has moved to another network namespace. The decision
/// about the container's namespace does not change.
void Source::look_for_a_move(Container& container) {
  if (!container.is_decided || container.has_moved || !has_process(container)) {
    return;
  }
  const auto& first = container.places.front().network;
  const std::uint64_t inode = workload::network_of_process(container.facts->pid);
  container.has_moved = inode != 0 && inode != (first ? first->inode() : workload::own_network());
  if (container.has_moved) {
    spdlog::warn("container {}: {}", container.id.substr(0, 12), kMoved);
  }
}

/// The running container whose network namespace this container joined; null if it joined none, or
/// the owner is not known.
const Source::Container* Source::owner_of_network(const Container& container) const {
  const std::string& mode = container.facts->network_mode;
  const Container* owner =
      mode.starts_with(kShared) ? by_reference(mode.substr(kShared.size())) : nullptr;
  return owner != nullptr && owner->facts->is_running && owner != &container ? owner : nullptr;
}

/// Searches among the processes of a starting container. A running container may have created more
/// namespaces itself; there only the first process counts, which the inspection reports.
bool Source::find_network(Container& container) const {
  if (container.places.empty() && !container.cgroup.empty() && !container.facts->is_running) {
    if (auto network = workload::find_entered_network(tree_, container.cgroup)) {
      container.places.push_back(
          {std::move(network), has_own_network(container.facts->network_mode)});
    }
  }
  return !container.places.empty();
}

/// True if the pid that the engine reported still belongs to the container, since pids are reused.
bool Source::has_process(const Container& container) const {
  const std::uint32_t pid = container.facts->pid;
  const auto path = pid == 0 ? Result<std::string>() : kernel::CgroupTree::of(pid);
  return pid != 0 && path &&
         (container.cgroup.empty() || (*path + "/").starts_with(container.cgroup + "/"));
}

Source::Network Source::network_by_mode(const std::string& mode, unsigned depth) const {
  if (mode == "host") {
    return Network::ours;
  }
  if (!mode.starts_with(kShared)) {
    return mode.empty() || mode.starts_with(kByPath) ? Network::unknown : Network::other;
  }
  const Container* other = by_reference(mode.substr(kShared.size()));
  return other == nullptr || depth > 8 ? Network::unknown
                                       : network_by_mode(other->facts->network_mode, depth + 1);
}

/// Resolves a reference like Docker: as an id, otherwise a name, otherwise a prefix of an id. Null
/// if there is no known container.
const Source::Container* Source::by_reference(const std::string& reference) const {
  const auto find = [this](auto matches) {
    const auto found = std::ranges::find_if(
        containers_, [&](const auto& item) { return item.second->facts && matches(*item.second); });
    return found == containers_.end() ? nullptr : found->second.get();
  };
  if (reference.empty()) {
    return nullptr;
  }
  const Container* found =
      find([&](const Container& container) { return container.id == reference; });
  if (found == nullptr) {
    found = find([&](const Container& container) { return container.facts->name == reference; });
  }
  return found != nullptr ? found : find([&](const Container& container) {
    return container.id.starts_with(reference);
  });
}

void Source::begin_start(Container& container, const std::string& cgroup) {
  forget_start(container);
  container.cgroup = cgroup;
  container.born = event::now(loop_);
  if (container.facts) {
    container.facts->pid = 0;  // belongs to an earlier start
    container.facts->sandbox.clear();
    container.facts->is_inspected = false;
  }
}

void Source::forget_start(Container& container) {
  container.cgroup.clear();
  forget_network(container);
  sought_.erase(container.id);
}

void Source::forget_network(Container& container) {
  container.places.clear();
  container.is_declared = container.is_decided = container.has_moved = false;
}

/// Searches periodically until the network namespace is found, the engine reports the first
/// process, or the cgroup is removed.
void Source::seek(const Container& container) {
  if (!container.cgroup.empty() && sought_.insert(container.id).second) {
    seek_.arm(seek_interval({}));
  }
}

void Source::seek_all() {
  for (const std::string& id : std::set<std::string>(sought_)) {
    const auto found = containers_.find(id);
    if (found == containers_.end() || !found->second->facts) {
      sought_.erase(id);
    } else if (find_network(*found->second)) {
      decide(*found->second);
    }
  }
  if (sought_.empty()) {
    return;
  }
  auto next = std::chrono::microseconds::max();
  for (const std::string& id : sought_) {
    next = std::min(next, seek_interval(event::now(loop_) - containers_.at(id)->born));
  }
  seek_.arm(next);
}

}  // namespace trireme::docker
