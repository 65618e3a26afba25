// Whose network namespace a container is in, and the search for one that is still being made.
#include <systemd/sd-event.h>

#include <algorithm>

#include "state.hpp"
#include "trireme/workload/network.hpp"

namespace trireme::docker {
namespace {

constexpr std::string_view kShared = "container:";
constexpr std::string_view kByPath = "ns:";  // Podman's: may be any namespace

/// How long after the birth of its cgroup a container is looked at how often, in µs. The runtime's
/// process enters the namespace milliseconds after the birth; setting the network up takes tens of
/// them; what takes longer is stuck, or waits for somebody.
std::uint64_t seek_interval(std::uint64_t age) {
  if (age < 1'000'000) {
    return 2'000;
  }
  return age < 11'000'000 ? 20'000 : 1'000'000;
}

std::uint64_t now(sd_event* loop) {
  std::uint64_t time = 0;
  return sd_event_now(loop, CLOCK_MONOTONIC, &time) < 0 ? 0 : time;
}

}  // namespace

/// Whether the namespace was made for it. Others share one by their mode, or came into one that is
/// not Docker's doing.
bool Source::has_own_network(const std::string& mode) {
  return !mode.empty() && mode != "host" && !mode.starts_with(kShared) &&
         !mode.starts_with(kByPath);
}

/// Before the start the configuration tells, unless processes of the runtime are in another
/// namespace already; from the start on the process. Keeps Container::network true.
Source::Network Source::network_of(Container& container) {
  if (const std::uint64_t inode =
          has_process(container) ? workload::network_of_process(container.facts->pid) : 0;
      inode != 0) {
    if (inode == workload::own_network()) {
      container.network = nullptr;
      return Network::ours;
    }
    if (!container.network || container.network->inode() != inode) {
      const auto held = kernel::Netns::of_process(container.facts->pid);
      container.network = held && (*held)->inode() == inode ? *held : nullptr;
    }
    return Network::other;
  }
  if (const workload::Workload* known = registered(container);
      !container.network && known != nullptr) {
    container.network = known->network;  // an earlier daemon's finding
  }
  const Network told = network_by_mode(container.facts->network_mode, 0);
  if (told != Network::ours) {
    return find_network(container) ? Network::other : told;
  }
  // Podman's list says "host" of every container: where a process contradicts it, the inspection is
  // waited for.
  const bool is_sure = container.facts->is_inspected;
  const bool is_elsewhere =
      container.network || (!is_sure && !container.cgroup.empty() &&
                            workload::find_entered_network(tree_, container.cgroup));
  return !is_elsewhere ? Network::ours : is_sure ? Network::other : Network::unknown;
}

/// Looks at the first processes of a start. True where Container::network is known. A container
/// that runs may have made further namespaces: there the process counts that the inspection tells.
bool Source::find_network(Container& container) const {
  if (!container.network && !container.cgroup.empty() && !container.facts->is_running) {
    container.network = workload::find_entered_network(tree_, container.cgroup);
  }
  return container.network != nullptr;
}

/// Whether the pid that Docker told is still the container's: pids are used again.
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

/// As Docker resolves one: an id, else a name, else the beginning of an id. Null where nothing is
/// known of it.
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
  container.born = now(loop_);
  if (container.facts) {
    container.facts->pid = 0;  // of an earlier start
    container.facts->is_inspected = false;
  }
}

void Source::forget_start(Container& container) {
  container.cgroup.clear();
  container.network = nullptr;
  sought_.erase(container.id);
}

/// Looks again and again until its network is found, its process is told, or its cgroup is gone.
void Source::seek(const Container& container) {
  if (!container.cgroup.empty() && sought_.insert(container.id).second) {
    sd_event_source_set_time_relative(seek_, seek_interval(0));
    sd_event_source_set_enabled(seek_, SD_EVENT_ONESHOT);
  }
}

int Source::on_seek(sd_event_source* timer, std::uint64_t /*usec*/, void* self) {
  auto& source = *static_cast<Source*>(self);
  for (const std::string& id : std::set<std::string>(source.sought_)) {
    const auto found = source.containers_.find(id);
    if (found == source.containers_.end() || !found->second->facts) {
      source.sought_.erase(id);
    } else if (source.find_network(*found->second)) {
      source.settle(*found->second);
    }
  }
  if (source.sought_.empty()) {
    return 0;
  }
  std::uint64_t next = UINT64_MAX;
  for (const std::string& id : source.sought_) {
    next = std::min(next, seek_interval(now(source.loop_) - source.containers_.at(id)->born));
  }
  sd_event_source_set_time_relative(timer, next);
  sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
  return 0;
}

}  // namespace trireme::docker
