// SPDX-License-Identifier: Apache-2.0
// Decides from what is known about a container whether it is enforced, quarantined or left alone.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "state.hpp"
#include "trireme/base/log_shares.hpp"
#include "trireme/workload/network.hpp"

namespace trireme::docker {
namespace {

constexpr const char* kWaiting = "waiting for its engine to report its labels";
constexpr const char* kNetworkWaiting = "its network namespace is not known yet";
constexpr const char* kNetworkToCome = "its network namespace does not exist yet";
constexpr const char* kImageWaiting = "waiting for the labels of its image";
constexpr const char* kImageGone =
    "its image is gone, so the container's own labels cannot be distinguished from the image's; "
    "recreate the container";
constexpr const char* kPublished =
    "published ports: docker-proxy forwards some of their connections, and to the container they "
    "come from @world at the address of its bridge; set 'userland-proxy=false'";

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

void Source::decide(Container& container) {
  sought_.erase(container.id);
  declare_soon();
  if (!makes_workloads()) {
    decide_by_order(container);
    return;
  }
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
             settings().containers == config::DockerSettings::Containers::host_network) {
    leave(container);
  } else {
    decide_by_labels(container, network);
  }
}

bool Source::makes_workloads() const {
  return settings().containers != config::DockerSettings::Containers::none;
}

bool Source::is_off() const {
  return !makes_workloads() && !registry_.holds_any(workload::Kind::container);
}

/// With containers = "none", a container is in quarantine if an operator's order covers it, and
/// otherwise left alone. As long as its name is not known, nothing changes: a new container stays
/// in the quarantine that the kernel began when its cgroup was created, and a container that runs
/// already keeps its connections while the engine is asked.
void Source::decide_by_order(Container& container) {
  if (container.facts && container.cgroup.empty()) {
    if (!container.facts->is_running) {
      forget_start(container);
      registry_.end_container(container.id);
      return;
    }
    std::ignore = network_of(container);  // it can be quarantined only by its network namespace
  }
  const std::vector<Engine*> engines = engines_of(container);
  container.is_left_alone = engines.empty();
  const bool is_named = container.facts || std::ranges::all_of(engines, [&](const Engine* engine) {
                          return container.questions[engine].is_unknown;
                        });
  if (is_named || registry_.hold_on(describe(container, {})) != nullptr) {
    leave(container);
  }
}

void Source::decide_by_labels(Container& container, Network network) {
  const auto labels = labels_of(container);
  if (!labels) {
    complain(container, labels.error().text());
    quarantine(container, labels.error().text());
  } else if (!labels->has_value()) {
    wait(container, is_image_gone(container) ? kImageGone : kImageWaiting);
  } else if (settings().containers == config::DockerSettings::Containers::labeled &&
             (*labels)->empty()) {
    leave(container);
  } else if (network == Network::other && container.places.empty()) {
    wait(container, kNetworkToCome);
    seek(container);
  } else {
    enforce(container, **labels);
  }
}

/// No configured engine can report this container, so it is not a workload, but it is listed.
void Source::leave_to_its_engine(Container& container) {
  const std::string name = container.cgroup.substr(container.cgroup.rfind('/') + 1);
  const char* engine = text(engine_of_cgroup(name));
  if (container.is_left_alone || !leave(container)) {
    return;
  }
  container.is_left_alone = true;
  workload::Description description = describe(container, {});
  registry_.list_unenforced(
      description, fmt::format("left alone: it is a container of {0}, and [docker] socket in "
                               "identity.toml lists no {0} socket",
                               engine));
  spdlog::warn("container {}: left alone: [docker] socket in identity.toml lists no {} socket",
               description.name, engine);
}

/// Null if the labels of its image were not requested.
const Source::Image* Source::image_of(const Container& container) {
  const auto image = container.engine->images.find(container.facts->image_id);
  return image == container.engine->images.end() ? nullptr : &image->second;
}

bool Source::is_image_gone(const Container& container) {
  const Image* image = image_of(container);
  return image != nullptr && image->is_gone;
}

/// The warning about labels that the image has with the same value; empty if there are none.
std::string Source::lost_labels(const Container& container) const {
  const Image* image = container.engine == nullptr ? nullptr : image_of(container);
  if (image == nullptr || !image->labels) {
    return {};
  }
  const auto lost =
      config::labels_lost_to_image(container.facts->labels, *image->labels, settings());
  return lost.empty() ? std::string()
                      : fmt::format(
                            "not part of the identity: {}: the image has the same {}; to include "
                            "{}, list the {} in [docker] image_labels of identity.toml",
                            fmt::join(lost, ", "), lost.size() == 1 ? "label" : "labels",
                            lost.size() == 1 ? "it" : "them", lost.size() == 1 ? "key" : "keys");
}

/// nullopt while the image's labels are not known.
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
  auto labels = config::identity_labels(facts.labels, *of_image, settings());
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
      description.published = facts.published;
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

/// For a container that has neither its own cgroup v2 cgroup (as with the cgroupfs driver and
/// cgroup v1) nor its own network namespace. Policy cannot be enforced on it, so it is listed and
/// logged as unprotected. Does nothing while the container is not inspected yet.
void Source::list_unprotected(Container& container, const workload::Description& description) {
  const auto path = container.facts->pid == 0 ? Result<std::string>()
                                              : kernel::CgroupTree::of(container.facts->pid);
  if (container.facts->pid == 0 || !path) {
    return;
  }
  if (tree_.is_removed(*path)) {
    // The engine reports its end later.
    if (log_shares().admit("workload " + description.name)) {
      spdlog::info("container {} is gone", description.name);
    }
    return;
  }
  const std::string reason = "NOT PROTECTED: its processes are in cgroup " + *path +
                             ", which is not its own; Docker must use cgroup v2";
  complain(container, reason);
  const workload::Workload* known = registry_.find_container(container.id);
  if (known == nullptr || known->state != workload::State::unenforced || known->reason != reason ||
      known->own_labels != description.labels || known->pid != description.pid ||
      !known->name.starts_with(description.name)) {
    registry_.list_unenforced(description, reason);
  }
}

/// The registry's workload of this start of the container; null if there is none or it is of an
/// earlier start.
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

/// Quarantines the container until more is known. If it is already enforced, with what an earlier
/// daemon or an earlier connection knew, it stays enforced.
void Source::wait(Container& container, const std::string& reason) {
  if (!makes_workloads()) {
    return;
  }
  if (const workload::Workload* known = registered(container);
      known == nullptr || known->state != workload::State::enforced) {
    quarantine(container, reason);
  }
}

void Source::quarantine(Container& container, const std::string& reason) {
  const workload::Workload* known = registered(container);
  if (known != nullptr && known->state == workload::State::quarantined && known->reason == reason) {
    return;
  }
  const workload::Description description = describe(container, {});
  if (container.cgroup.empty() ? !has_whole_network(description) : !tree_.id(container.cgroup)) {
    return;  // nothing to quarantine
  }
  if (const Status held = registry_.quarantine(description, reason); !held) {
    complain(container, held.error().text());
  }
}

/// Makes the container no workload: it is neither enforced nor listed. Returns false if an
/// operator's order covers it: it is in quarantine instead.
bool Source::leave(Container& container) {
  if (const workload::Hold* hold =
          registry_.holds().empty() ? nullptr : registry_.hold_on(describe(container, {}))) {
    quarantine(container, hold->text());
    return false;
  }
  registry_.release(container.cgroup);
  if (const workload::Workload* known = registry_.find_container(container.id);
      known != nullptr && known->cgroup_path.empty()) {
    registry_.end_container(container.id);
  }
  return true;
}

}  // namespace trireme::docker
