// SPDX-License-Identifier: Apache-2.0
// From what is known of a container to what is done about it.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

#include "labels.hpp"
#include "state.hpp"
#include "trireme/workload/network.hpp"

namespace trireme::docker {
namespace {

constexpr const char* kWaiting = "its engine has not told its labels yet";
constexpr const char* kNetworkWaiting = "it is not known yet whose network it shares";
constexpr const char* kNetworkToCome = "its network namespace is still to be made";
constexpr const char* kImageWaiting = "the labels of its image are not known yet";
constexpr const char* kImageGone =
    "its image is gone, so its own labels cannot be told from the image's: make the container "
    "again";
constexpr const char* kPublished =
    "published ports: docker-proxy answers some of their traffic as a process of this host "
    "('userland-proxy=false')";

bool has_whole_network(const workload::Description& description) {
  return !description.places.empty() && description.places.front().whole_network;
}

}  // namespace

void Source::complain(Container& container, const std::string& problem) {
  if (container.problem != problem) {
    container.problem = problem;
    spdlog::error("container {}: {}", container.id.substr(0, 12), problem);
  }
}

void Source::settle(Container& container) {
  sought_.erase(container.id);
  declare_soon();
  if (!engines_.empty() && engines_of(container).empty()) {
    leave_to_its_engine(container);
    return;
  }
  if (std::exchange(container.is_left_alone, false)) {
    registry_.end_container(container.id);
  }
  if (!container.facts) {
    wait(container, kWaiting);
    return;
  }
  if (container.cgroup.empty() && !container.facts->is_running) {
    forget_start(container);
    registry_.end_container(container.id);
    return;
  }
  const Network network = network_of(container);
  if (network == Network::unknown) {
    wait(container, kNetworkWaiting);
    seek(container);
  } else if (network == Network::other &&
             settings().containers == policy::DockerSettings::Containers::host_network) {
    leave(container);
  } else {
    settle_by_labels(container, network);
  }
}

void Source::settle_by_labels(Container& container, Network network) {
  const auto labels = labels_of(container);
  if (!labels) {
    complain(container, labels.error().text());
    hold(container, labels.error().text());
  } else if (!labels->has_value()) {
    wait(container, is_image_gone(container) ? kImageGone : kImageWaiting);
  } else if (settings().containers == policy::DockerSettings::Containers::labelled &&
             (*labels)->empty()) {
    leave(container);
  } else if (network == Network::other && container.places.empty()) {
    wait(container, kNetworkToCome);
    seek(container);
  } else {
    enforce(container, **labels);
  }
}

/// Nobody tells what it is: no workload, but listed.
void Source::leave_to_its_engine(Container& container) {
  const std::string name = container.cgroup.substr(container.cgroup.rfind('/') + 1);
  const char* engine = text(engine_of_cgroup(name));
  if (std::exchange(container.is_left_alone, true)) {
    return;
  }
  leave(container);
  workload::Description description = describe(container, {});
  registry_.list_unenforced(
      description, fmt::format("left alone: it is a container of {}, and no socket of that is in "
                               "[docker] socket of identity.toml",
                               engine));
  spdlog::warn("container {}: left alone: {} is not in [docker] socket of identity.toml",
               description.name, engine);
}

/// Null where nothing was asked about it.
const Source::Image* Source::image_of(const Container& container) {
  const auto image = container.engine->images.find(container.facts->image_id);
  return image == container.engine->images.end() ? nullptr : &image->second;
}

bool Source::is_image_gone(const Container& container) {
  const Image* image = image_of(container);
  return image != nullptr && image->is_gone;
}

/// A warning about labels that are the image's too; empty where there are none.
std::string Source::lost_labels(const Container& container) const {
  const Image* image = container.engine == nullptr ? nullptr : image_of(container);
  if (image == nullptr || !image->labels) {
    return {};
  }
  const auto lost = labels_lost_to_image(container.facts->labels, *image->labels, settings());
  return lost.empty() ? std::string()
                      : fmt::format(
                            "no identity by {}: the image has {} as well; list the keys in "
                            "[docker] image_labels of identity.toml if they are to count",
                            fmt::join(lost, ", "), lost.size() == 1 ? "it" : "them");
}

/// nullopt: not to be told before the image's labels are known.
Result<std::optional<policy::LabelSet>> Source::labels_of(const Container& container) const {
  const ContainerFacts& facts = *container.facts;
  static const RawLabels none;
  const RawLabels* of_image = &none;
  if (!facts.labels.empty()) {
    const Image* image = image_of(container);
    if (image == nullptr || !image->labels) {
      return std::optional<policy::LabelSet>();
    }
    of_image = &*image->labels;
  }
  auto labels = identity_labels(facts.labels, *of_image, settings());
  if (!labels) {
    return tl::unexpected(labels.error());
  }
  return std::optional(std::move(*labels));
}

workload::Description Source::describe(const Container& container,
                                       const policy::LabelSet& labels) const {
  workload::Description description;
  description.name = container.id.substr(0, 12);
  description.kind = workload::Kind::container;
  description.labels = labels;
  description.cgroup_path = container.cgroup;
  description.container_id = container.id;
  description.places = container.places;
  if (container.cgroup.empty() && !container.places.empty()) {
    description.places.resize(1);
  }
  const kernel::Netns* network =
      container.places.empty() ? nullptr : container.places.front().network.get();
  if (container.facts) {
    const ContainerFacts& facts = *container.facts;
    description.name = facts.name.empty() ? description.name : facts.name;
    description.pid = has_process(container) ? facts.pid : 0;
    if (facts.is_inspected) {
      const auto held = description.pid == 0
                            ? std::vector<std::string>()
                            : workload::capability_warnings(description.pid, network);
      description.warnings = container_warnings(facts.capabilities, held);
      if (network != nullptr && facts.publishes_ports) {
        description.warnings.emplace_back(kPublished);
      }
      if (container.has_moved) {
        description.warnings.emplace_back(kMoved);
      }
    }
    if (std::string lost = lost_labels(container); !lost.empty()) {
      description.warnings.push_back(std::move(lost));
    }
  }
  return description;
}

void Source::enforce(Container& container, const policy::LabelSet& labels) {
  const workload::Description description = describe(container, labels);
  if (container.cgroup.empty() && !has_whole_network(description)) {
    list_unprotected(container, description);
    return;
  }
  if (const Status enrolled = registry_.enrol(description);
      !enrolled && (container.cgroup.empty() || tree_.id(container.cgroup))) {
    complain(container, "quarantined: " + enrolled.error().text());
    retry_later(container.id);
    return;
  }
  container.problem.clear();
  if (const std::string lost = lost_labels(container);
      container.lost_labels != lost && !lost.empty()) {
    spdlog::warn("container {}: {}", description.name, lost);
    container.lost_labels = lost;
  }
}

/// Not inspected yet; or in a cgroup that is not its own, as with the cgroupfs driver beside cgroup
/// v1, in a network namespace that is not its own either: nothing can be done about that one but to
/// say so.
void Source::list_unprotected(Container& container, const workload::Description& description) {
  const auto path = container.facts->pid == 0 ? Result<std::string>()
                                              : kernel::CgroupTree::of(container.facts->pid);
  if (container.facts->pid == 0 || !path) {
    return;
  }
  const std::string reason = "NOT PROTECTED: its processes are in cgroup " + *path +
                             ", which is not its own; Docker needs cgroup v2";
  complain(container, reason);
  const workload::Workload* known = registry_.find_container(container.id);
  if (known == nullptr || known->state != workload::State::unenforced || known->reason != reason ||
      known->own_labels != description.labels || known->pid != description.pid ||
      !known->name.starts_with(description.name)) {
    registry_.list_unenforced(description, reason);
  }
}

/// What the registry has of this very start; null where that is nothing, or something older.
const workload::Workload* Source::registered(const Container& container) const {
  if (container.cgroup.empty()) {
    const workload::Workload* known = registry_.find_container(container.id);
    return known != nullptr && known->cgroup_path.empty() && !container.places.empty() &&
                   known->is_in(container.places.front().network)
               ? known
               : nullptr;
  }
  const workload::Workload* known = registry_.find_cgroup(container.cgroup);
  const auto id = tree_.id(container.cgroup);
  return known != nullptr && id && known->cgroup_id == *id ? known : nullptr;
}

/// In quarantine until more is known. What an earlier daemon, or an earlier connection, knew enough
/// about to enforce stays enforced.
void Source::wait(Container& container, const std::string& reason) {
  if (const workload::Workload* known = registered(container);
      known == nullptr || known->state != workload::State::enforced) {
    hold(container, reason);
  }
}

void Source::hold(Container& container, const std::string& reason) {
  const workload::Workload* known = registered(container);
  if (known != nullptr && known->state == workload::State::quarantined && known->reason == reason) {
    return;
  }
  const workload::Description description = describe(container, {});
  if (container.cgroup.empty() ? !has_whole_network(description) : !tree_.id(container.cgroup)) {
    return;  // nothing to shut
  }
  if (const Status held = registry_.quarantine(description, reason); !held) {
    complain(container, held.error().text());
  }
}

/// No workload: neither judged nor listed.
void Source::leave(Container& container) {
  registry_.release(container.cgroup);
  if (const workload::Workload* known = registry_.find_container(container.id);
      known != nullptr && known->cgroup_path.empty()) {
    registry_.end_container(container.id);
  }
}

}  // namespace trireme::docker
