#include "trireme/workload/docker.hpp"

#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <systemd/sd-event.h>

#include <algorithm>
#include <utility>

#include "docker_labels.hpp"
#include "docker_link.hpp"

namespace trireme::workload {
namespace {

constexpr std::uint64_t kRetry = 1'000'000;  // µs
constexpr const char* kWaiting = "Docker has not told its labels yet";
constexpr const char* kImageWaiting = "the labels of its image are not known yet";
constexpr const char* kImageGone = "its image is gone, so its own labels cannot be told from the image's: make the container again";

/// The inode of a process's network namespace; 0 where it is gone.
std::uint64_t netns_of(const std::string& process) {
  struct stat status {};
  return ::stat(("/proc/" + process + "/ns/net").c_str(), &status) == 0 ? status.st_ino : 0;
}

}  // namespace

struct DockerSource::Container {
  std::string id;
  std::string cgroup;                   // its directory's path while there is one
  std::optional<ContainerFacts> facts;  // the newest that Docker told
  bool is_asked = false;                // an inspection is under way
  bool ask_again = false;               // something happened meanwhile
};

/// The labels of an image: not known yet, not to be had any more, or known.
struct DockerSource::Image {
  bool is_asked = false;
  bool is_gone = false;
  std::optional<RawLabels> labels;
};

DockerSource::DockerSource(sd_event* loop, const kernel::CgroupTree& tree, Registry& registry, CgroupEvents& events)
    : loop_(loop), tree_(tree), registry_(registry), events_(events), identity_(std::make_shared<policy::Identity>()) {
  if (sd_event_add_time_relative(loop_, &retry_, CLOCK_MONOTONIC, 0, 1, on_retry, this) >= 0) {
    sd_event_source_set_enabled(retry_, SD_EVENT_OFF);
  }
  link_ =
      std::make_unique<DockerLink>(loop_, DockerLink::Handlers{[this](const DockerEvent& event) { on_event(event); },
                                                               [this](std::vector<ContainerFacts> all) { on_listing(std::move(all)); }});
}

DockerSource::~DockerSource() {
  sd_event_source_disable_unref(retry_);
}

void DockerSource::configure(std::shared_ptr<const policy::Identity> identity) {
  identity_ = std::move(identity);
  const bool used = settings().containers != policy::DockerSettings::Containers::none;
  link_->connect(used ? settings().socket : "");
  for (const std::string& path : events_.known()) {
    std::ignore = cgroup_born(path);  // while [docker] was off, births were not taken
  }
  std::vector<Container*> all;
  std::ranges::transform(containers_, std::back_inserter(all), [](const auto& item) { return item.second.get(); });
  std::ranges::for_each(all, [this](Container* container) { settle(*container); });
}

std::string DockerSource::status() const {
  const auto running =
      std::ranges::count_if(containers_, [](const auto& item) { return item.second->facts && item.second->facts->is_running; });
  return link_->is_connected() ? link_->state() + ", " + std::to_string(running) + " containers" : link_->state();
}

// --- births ---

std::string DockerSource::container_of(const std::string& path) const {
  const std::size_t slash = path.rfind('/');
  std::string name = path.substr(slash + 1);
  for (const char* prefix : {"docker-", "libpod-"}) {
    if (name.starts_with(prefix) && name.ends_with(".scope")) {
      name = name.substr(7, name.size() - 13);
      return is_container_id(name) ? name : "";
    }
  }
  const std::string parent = path.substr(0, slash);
  const bool known = parent == "/docker" || parent == "/libpod_parent" || parents_.contains(parent);
  return known && is_container_id(name) ? name : "";
}

DockerSource::Container& DockerSource::entry(const std::string& id) {
  auto& container = containers_[id];
  if (!container) {
    container = std::make_unique<Container>();
    container->id = id;
  }
  return *container;
}

bool DockerSource::cgroup_born(const std::string& path) {
  if (settings().containers == policy::DockerSettings::Containers::none) {
    return false;
  }
  const std::string id = container_of(path);
  if (id.empty()) {
    return false;
  }
  Container& container = entry(id);
  if (container.cgroup != path) {
    container.cgroup = path;
    if (container.facts) {
      container.facts->pid = 0;  // of an earlier start
      container.facts->is_inspected = false;
    }
  }
  settle(container);
  if (!container.facts || !container.facts->is_inspected) {
    inspect(id);
  }
  return true;
}

void DockerSource::cgroup_gone(const std::string& path) {
  const std::string id = container_of(path);
  if (const auto found = containers_.find(id); !id.empty() && found != containers_.end() && found->second->cgroup == path) {
    found->second->cgroup.clear();
  }
}

// --- news from Docker ---

void DockerSource::on_listing(std::vector<ContainerFacts> listed) {
  // Answers to what was asked over an earlier connection never come.
  for (const auto& [id, container] : containers_) {
    container->is_asked = container->ask_again = false;
  }
  for (auto& [id, image] : images_) {
    image.is_asked = false;
  }
  std::set<std::string> there;
  for (ContainerFacts& facts : listed) {
    there.insert(facts.id);
    Container& container = entry(facts.id);
    container.facts = std::move(facts);
  }
  std::vector<Container*> all;
  std::ranges::transform(containers_, std::back_inserter(all), [](const auto& item) { return item.second.get(); });
  for (Container* container : all) {
    if (there.contains(container->id)) {
      learn(*container, *container->facts);
    }
    if (!there.contains(container->id) || container->facts->is_running || !container->cgroup.empty()) {
      inspect(container->id);
    }
  }
}

void DockerSource::on_event(const DockerEvent& event) {
  static const std::set<std::string, std::less<>> kTelling = {"create", "start",  "die",     "destroy", "rename",
                                                              "update", "remove", "restart", "stop",    "kill"};
  if (kTelling.contains(event.action)) {
    inspect(event.id);
  }
}

void DockerSource::inspect(const std::string& id) {
  Container& container = entry(id);
  if (container.is_asked) {
    container.ask_again = true;
    return;
  }
  container.is_asked = true;
  link_->inspect(id, [this, id](Result<std::optional<ContainerFacts>> answer) { inspected(id, std::move(answer)); });
}

void DockerSource::inspected(const std::string& id, Result<std::optional<ContainerFacts>> answer) {
  Container& container = entry(id);
  container.is_asked = false;
  const bool again = std::exchange(container.ask_again, false);
  if (!answer) {
    spdlog::warn("container {}: {}", id.substr(0, 12), answer.error().message);
    wait(container, "Docker could not tell its labels: " + answer.error().message);
    retry_later(id);
  } else if (!answer->has_value()) {
    not_there(id);
  } else {
    learn(container, std::move(**answer));
  }
  if (again) {
    inspect(id);
  }
}

void DockerSource::learn(Container& container, ContainerFacts facts) {
  if (facts.cgroup_parent.starts_with('/') && parents_.insert(facts.cgroup_parent).second) {
    events_.watch(facts.cgroup_parent);
  }
  const bool has_labels = !facts.labels.empty();
  const std::string image = facts.image_id;
  if (facts.pid != 0 && container.cgroup.empty()) {
    const auto cgroup = kernel::CgroupTree::of(facts.pid);
    container.cgroup = cgroup && container_of(*cgroup) == container.id ? *cgroup : "";
  }
  container.facts = std::move(facts);
  if (has_labels) {
    look_at_image(image);
  }
  settle(container);
}

void DockerSource::not_there(const std::string& id) {
  Container& container = entry(id);
  registry_.end_container(id);
  if (container.cgroup.empty() || !tree_.id(container.cgroup)) {
    containers_.erase(id);
    return;
  }
  container.facts.reset();
  hold(container, "Docker knows no such container");
}

void DockerSource::look_at_image(const std::string& image_id) {
  Image& image = images_[image_id];
  if (image.labels || image.is_asked) {
    return;
  }
  image.is_asked = true;
  link_->image_labels(image_id, [this, image_id](Result<std::optional<RawLabels>> answer) {
    Image& asked = images_[image_id];
    asked.is_asked = false;
    asked.is_gone = answer && !answer->has_value();
    if (answer && answer->has_value()) {
      asked.labels = std::move(**answer);
    }
    std::vector<Container*> users;
    for (const auto& [id, container] : containers_) {
      if (container->facts && container->facts->image_id == image_id) {
        users.push_back(container.get());
      }
    }
    for (Container* user : users) {
      settle(*user);
      if (!answer) {
        retry_later(user->id);
      }
    }
  });
}

void DockerSource::retry_later(const std::string& id) {
  if (failed_.empty()) {
    sd_event_source_set_time_relative(retry_, kRetry);
    sd_event_source_set_enabled(retry_, SD_EVENT_ONESHOT);
  }
  failed_.insert(id);
}

int DockerSource::on_retry(sd_event_source* /*source*/, std::uint64_t /*usec*/, void* self) {
  auto& source = *static_cast<DockerSource*>(self);
  for (const std::string& id : std::exchange(source.failed_, {})) {
    if (source.containers_.contains(id)) {
      source.inspect(id);
    }
  }
  return 0;
}

// --- from what is known to what is done ---

void DockerSource::settle(Container& container) {
  if (!container.facts) {
    wait(container, kWaiting);
    return;
  }
  const Network network = network_of(container);
  if (network == Network::unknown) {
    wait(container, "the container whose network it shares is not known yet");
    return;
  }
  const auto labels = labels_of(container);
  if (!labels) {
    network == Network::ours ? hold(container, labels.error().text()) : leave(container);
    return;
  }
  if (!labels->has_value()) {
    const auto image = images_.find(container.facts->image_id);
    wait(container, image != images_.end() && image->second.is_gone ? kImageGone : kImageWaiting);
    return;
  }
  using Containers = policy::DockerSettings::Containers;
  const Containers wanted = settings().containers;
  if (wanted == Containers::none || (wanted == Containers::labelled && (*labels)->empty()) ||
      (wanted == Containers::host_network && network != Network::ours)) {
    leave(container);
  } else if (network == Network::ours) {
    enforce(container, **labels);
  } else {
    list_unenforced(container, **labels);
  }
}

/// Before the start the configuration tells, from the start on the process.
DockerSource::Network DockerSource::network_of(const Container& container) const {
  if (container.facts->pid != 0) {
    if (const std::uint64_t inode = netns_of(std::to_string(container.facts->pid)); inode != 0) {
      return inode == netns_of("self") ? Network::ours : Network::other;
    }
  }
  return network_by_mode(container.facts->network_mode, 0);
}

DockerSource::Network DockerSource::network_by_mode(const std::string& mode, unsigned depth) const {
  if (mode == "host") {
    return Network::ours;
  }
  constexpr std::string_view kShared = "container:";
  if (!mode.starts_with(kShared)) {
    return Network::other;
  }
  const std::string reference = mode.substr(kShared.size());
  for (const auto& [id, other] : containers_) {
    if (other->facts && (id.starts_with(reference) || other->facts->name == reference)) {
      return depth > 8 ? Network::unknown : network_by_mode(other->facts->network_mode, depth + 1);
    }
  }
  return Network::unknown;
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
    description.pid = facts.pid;
    if (facts.is_inspected) {
      description.warnings =
          container_warnings(facts.capabilities, facts.pid == 0 ? std::vector<std::string>() : capability_warnings(facts.pid));
    }
  }
  return description;
}

void DockerSource::enforce(Container& container, const policy::LabelSet& labels) {
  if (container.cgroup.empty()) {
    if (!container.facts->is_running) {
      registry_.end_container(container.id);
    }
    return;
  }
  if (const Status enrolled = registry_.enrol(describe(container, labels)); !enrolled && tree_.id(container.cgroup)) {
    spdlog::error("container {}: quarantined: {}", container.id.substr(0, 12), enrolled.error().text());
    retry_later(container.id);
  }
}

void DockerSource::list_unenforced(Container& container, const policy::LabelSet& labels) {
  if (!container.facts->is_running) {
    // Its cgroup, if there is one already, is of a start under way; in another network namespace it is never judged here.
    registry_.end_container(container.id);
    return;
  }
  if (!container.cgroup.empty()) {
    registry_.release(container.cgroup);  // from its quarantine since birth
  }
  Description description = describe(container, labels);
  description.cgroup_path.clear();
  const Workload* known = registry_.find_container(container.id);
  if (known == nullptr || known->state != State::unenforced || known->own_labels != labels || known->pid != description.pid) {
    if (known == nullptr || known->state != State::unenforced) {
      spdlog::warn("container {}: it has a network namespace of its own, where nothing is enforced yet", description.name);
    }
    registry_.list_unenforced(description, "it has a network namespace of its own, where nothing is enforced yet");
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
    spdlog::error("container {}: {}", container.id.substr(0, 12), held.error().text());
  }
}

void DockerSource::leave(Container& container) {
  if (!container.cgroup.empty()) {
    registry_.release(container.cgroup);
  }
  if (const Workload* known = registry_.find_container(container.id); known != nullptr && known->cgroup_path.empty()) {
    registry_.end_container(container.id);
  }
}

}  // namespace trireme::workload
