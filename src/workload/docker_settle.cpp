// From what is known of a container to what is done about it.
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "docker_labels.hpp"
#include "docker_link.hpp"
#include "docker_state.hpp"

namespace trireme::workload {
namespace {

constexpr const char* kWaiting = "Docker has not told its labels yet";
constexpr const char* kNetworkWaiting = "it is not known yet whose network it shares";
constexpr const char* kImageWaiting = "the labels of its image are not known yet";
constexpr const char* kImageGone = "its image is gone, so its own labels cannot be told from the image's: make the container again";
constexpr const char* kOwnNetwork = "it has a network namespace of its own, where nothing is enforced yet";
constexpr const char* kPublished =
    "published ports: docker-proxy answers some of their traffic as a process of this host ('userland-proxy=false')";

/// The inode of a process's network namespace; 0 where it is gone.
std::uint64_t netns_of(const std::string& process) {
  struct stat status {};
  return ::stat(("/proc/" + process + "/ns/net").c_str(), &status) == 0 ? status.st_ino : 0;
}

}  // namespace

void DockerSource::complain(Container& container, const std::string& problem) {
  if (container.problem != problem) {
    container.problem = problem;
    spdlog::error("container {}: {}", container.id.substr(0, 12), problem);
  }
}

void DockerSource::settle(Container& container) {
  if (!container.facts) {
    wait(container, kWaiting);
    return;
  }
  switch (network_of(container)) {
    case Network::unknown:
      wait(container, kNetworkWaiting);
      break;
    case Network::ours:
      settle_here(container);
      break;
    case Network::other:
      settle_elsewhere(container);
      break;
  }
}

void DockerSource::settle_here(Container& container) {
  const auto labels = labels_of(container);
  if (!labels) {
    complain(container, labels.error().text());
    hold(container, labels.error().text());
  } else if (!labels->has_value()) {
    wait(container, is_image_gone(container) ? kImageGone : kImageWaiting);
  } else if (settings().containers == policy::DockerSettings::Containers::labelled && (*labels)->empty()) {
    leave(container);
  } else {
    enforce(container, **labels);
  }
}

void DockerSource::settle_elsewhere(Container& container) {
  using Containers = policy::DockerSettings::Containers;
  const auto labels = labels_of(container);
  const bool known = labels && labels->has_value();
  const bool wanted =
      settings().containers == Containers::all || (settings().containers == Containers::labelled && !(known && (*labels)->empty()));
  if (!wanted || !container.facts->is_running) {
    // A cgroup without a running container is of a start under way; in another network namespace it is never judged here.
    leave(container);
  } else if (labels && !known && !is_image_gone(container)) {
    registry_.release(container.cgroup);  // listed when the image's labels are known
  } else {
    list_elsewhere(container, known ? **labels : policy::LabelSet());
  }
}

/// Before the start the configuration tells, from the start on the process.
DockerSource::Network DockerSource::network_of(const Container& container) const {
  if (has_process(container)) {
    if (const std::uint64_t inode = netns_of(std::to_string(container.facts->pid)); inode != 0) {
      return inode == netns_of("self") ? Network::ours : Network::other;
    }
  }
  return network_by_mode(container.facts->network_mode, 0);
}

/// Whether the pid that Docker told is still the container's: pids are used again.
bool DockerSource::has_process(const Container& container) const {
  const std::uint32_t pid = container.facts->pid;
  const auto path = pid == 0 ? Result<std::string>() : kernel::CgroupTree::of(pid);
  return pid != 0 && path && (container.cgroup.empty() || (*path + "/").starts_with(container.cgroup + "/"));
}

DockerSource::Network DockerSource::network_by_mode(const std::string& mode, unsigned depth) const {
  if (mode == "host") {
    return Network::ours;
  }
  constexpr std::string_view kShared = "container:";
  if (!mode.starts_with(kShared)) {
    // Podman's "ns:PATH" may be any namespace.
    return mode.empty() || mode.starts_with("ns:") ? Network::unknown : Network::other;
  }
  const Container* other = by_reference(mode.substr(kShared.size()));
  return other == nullptr || depth > 8 ? Network::unknown : network_by_mode(other->facts->network_mode, depth + 1);
}

/// As Docker resolves one: an id, else a name, else the beginning of an id. Null where nothing is known of it.
const DockerSource::Container* DockerSource::by_reference(const std::string& reference) const {
  const auto find = [this](auto matches) {
    const auto found = std::ranges::find_if(containers_, [&](const auto& item) { return item.second->facts && matches(*item.second); });
    return found == containers_.end() ? nullptr : found->second.get();
  };
  if (reference.empty()) {
    return nullptr;
  }
  const Container* found = find([&](const Container& container) { return container.id == reference; });
  if (found == nullptr) {
    found = find([&](const Container& container) { return container.facts->name == reference; });
  }
  return found != nullptr ? found : find([&](const Container& container) { return container.id.starts_with(reference); });
}

bool DockerSource::is_image_gone(const Container& container) const {
  const auto image = images_.find(container.facts->image_id);
  return image != images_.end() && image->second.is_gone;
}

/// nullopt: not to be told before the image's labels are known.
Result<std::optional<policy::LabelSet>> DockerSource::labels_of(const Container& container) const {
  const ContainerFacts& facts = *container.facts;
  static const RawLabels none;
  const RawLabels* of_image = &none;
  if (!facts.labels.empty()) {
    const auto image = images_.find(facts.image_id);
    if (image == images_.end() || !image->second.labels) {
      return std::optional<policy::LabelSet>();
    }
    of_image = &*image->second.labels;
  }
  auto labels = identity_labels(facts.labels, *of_image, settings());
  if (!labels) {
    return tl::unexpected(labels.error());
  }
  return std::optional(std::move(*labels));
}

Description DockerSource::describe(const Container& container, const policy::LabelSet& labels) const {
  Description description;
  description.name = container.id.substr(0, 12);
  description.kind = Kind::container;
  description.labels = labels;
  description.cgroup_path = container.cgroup;
  description.container_id = container.id;
  if (container.facts) {
    const ContainerFacts& facts = *container.facts;
    description.name = facts.name.empty() ? description.name : facts.name;
    description.pid = has_process(container) ? facts.pid : 0;
    if (facts.is_inspected) {
      description.warnings =
          container_warnings(facts.capabilities, description.pid == 0 ? std::vector<std::string>() : capability_warnings(description.pid));
    }
  }
  return description;
}

void DockerSource::enforce(Container& container, const policy::LabelSet& labels) {
  if (container.cgroup.empty()) {
    enforce_without_cgroup(container, labels);
    return;
  }
  if (const Status enrolled = registry_.enrol(describe(container, labels)); !enrolled && tree_.id(container.cgroup)) {
    complain(container, "quarantined: " + enrolled.error().text());
    retry_later(container.id);
    return;
  }
  container.problem.clear();
}

/// Not running; or not inspected yet; or in a cgroup that is not its own, as with the cgroupfs driver beside cgroup v1: nothing can be
/// done about that one but to say so.
void DockerSource::enforce_without_cgroup(Container& container, const policy::LabelSet& labels) {
  if (!container.facts->is_running) {
    registry_.end_container(container.id);
    return;
  }
  const auto path = container.facts->pid == 0 ? Result<std::string>() : kernel::CgroupTree::of(container.facts->pid);
  if (container.facts->pid != 0 && path) {
    const std::string reason = "NOT PROTECTED: its processes are in cgroup " + *path + ", which is not its own; Docker needs cgroup v2";
    complain(container, reason);
    list(container, describe(container, labels), reason);
  }
}

void DockerSource::list_elsewhere(Container& container, const policy::LabelSet& labels) {
  registry_.release(container.cgroup);  // from its quarantine since birth
  Description description = describe(container, labels);
  description.cgroup_path.clear();
  if (container.facts->publishes_ports) {
    description.warnings.emplace_back(kPublished);
  }
  if (const Workload* known = registry_.find_container(container.id); known == nullptr || known->state != State::unenforced) {
    spdlog::warn("container {}: {}", description.name, kOwnNetwork);
  }
  list(container, description, kOwnNetwork);
}

void DockerSource::list(const Container& container, const Description& description, const std::string& reason) {
  const Workload* known = registry_.find_container(container.id);
  if (known == nullptr || known->state != State::unenforced || known->reason != reason || known->own_labels != description.labels ||
      known->pid != description.pid || !known->name.starts_with(description.name)) {
    registry_.list_unenforced(description, reason);
  }
}

/// In quarantine until more is known. What an earlier daemon, or an earlier connection, knew enough about to enforce stays enforced.
void DockerSource::wait(Container& container, const std::string& reason) {
  const Workload* known = container.cgroup.empty() ? nullptr : registry_.find_cgroup(container.cgroup);
  const auto id = tree_.id(container.cgroup);
  if (known == nullptr || !id || known->cgroup_id != *id || known->state != State::enforced) {
    hold(container, reason);
  }
}

void DockerSource::hold(Container& container, const std::string& reason) {
  if (container.cgroup.empty()) {
    return;
  }
  const Workload* known = registry_.find_cgroup(container.cgroup);
  const auto id = tree_.id(container.cgroup);
  if (!id || (known != nullptr && known->cgroup_id == *id && known->state == State::quarantined && known->reason == reason)) {
    return;
  }
  if (const Status held = registry_.quarantine(describe(container, {}), reason); !held) {
    complain(container, held.error().text());
  }
}

/// No workload: neither judged nor listed.
void DockerSource::leave(Container& container) {
  registry_.release(container.cgroup);
  if (const Workload* known = registry_.find_container(container.id); known != nullptr && known->cgroup_path.empty()) {
    registry_.end_container(container.id);
  }
}

}  // namespace trireme::workload
