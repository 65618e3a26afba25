// SPDX-License-Identifier: Apache-2.0
// What the engines report: lists, events and inspections of containers and images.
#include <algorithm>
#include <utility>

#include "cgroup.hpp"
#include "link.hpp"
#include "state.hpp"
#include "trireme/docker/source.hpp"

namespace trireme::docker {
namespace {

constexpr std::chrono::seconds kRetry(1);

}  // namespace

void Source::on_listing(Engine& engine, std::vector<ContainerFacts> listed) {
  // Queries that were pending on an earlier connection are never answered.
  for (const auto& [id, container] : containers_) {
    container->questions.erase(&engine);
  }
  for (auto& [id, image] : engine.images) {
    image.is_asked = false;
  }
  std::set<std::string> there;
  for (ContainerFacts& facts : listed) {
    there.insert(facts.id);
    Container& container = entry(facts.id);
    keep_inspected(container, facts);
    container.facts = std::move(facts);
    container.engine = &engine;
  }
  forget_unused_images();
  engine.asks_networks = false;
  ask_for_networks(engine);
  for (Container* container : all()) {
    if (container->engine != nullptr && container->engine != &engine) {
      continue;
    }
    if (there.contains(container->id)) {
      learn(*container, *container->facts);
    }
    if (!there.contains(container->id) || container->facts->is_running ||
        !container->cgroup.empty()) {
      inspect(container->id);
    }
  }
  if (engine.kind != engine.link.kind()) {
    // The engine is of another kind than its socket's path indicated, so assign the cgroups again.
    engine.kind = engine.link.kind();
    look_at_cgroups();
  }
}

/// Keeps members of an earlier inspection that a list does not contain or reports wrongly: Podman's
/// list has NetworkMode "host" for every container. The mode never changes. A pid of an earlier
/// start is harmless, because that process is not in the cgroup of this one.
void Source::keep_inspected(const Container& container, ContainerFacts& listed) {
  if (container.facts && !container.facts->network_mode.empty()) {
    listed.network_mode = container.facts->network_mode;
    listed.is_mode_sure = container.facts->is_mode_sure;
  }
  if (container.facts && container.facts->is_inspected && listed.is_running) {
    listed.is_inspected = true;
    listed.pid = container.facts->pid;
    listed.started = container.facts->started;
    listed.sandbox = container.facts->sandbox;
    listed.cgroup_parent = container.facts->cgroup_parent;
    listed.publishes_ports = container.facts->publishes_ports;
    listed.published = container.facts->published;
    listed.capabilities = container.facts->capabilities;
    listed.networks = container.facts->networks;
    listed.addresses = container.facts->addresses;
  }
}

void Source::forget_unused_images() {
  for (const auto& engine : engines_) {
    std::set<std::string> used;
    for (const auto& [id, container] : containers_) {
      if (container->engine == engine.get()) {
        used.insert(container->facts->image_id);
      }
    }
    std::erase_if(engine->images, [&](const auto& item) {
      return !item.second.is_asked && !used.contains(item.first);
    });
  }
}

void Source::on_event(Engine& engine, const Event& event) {
  static const std::set<std::string, std::less<>> kRelevant = {
      "create", "start", "die", "destroy", "rename", "update", "remove", "restart", "stop", "kill"};
  if (event.id.empty()) {
    ask_for_networks(engine);
  } else if (kRelevant.contains(event.action)) {
    ask(engine, event.id);
  }
}

void Source::inspect(const std::string& id) {
  for (Engine* engine : engines_of(entry(id))) {
    ask(*engine, id);
  }
}

void Source::ask(Engine& engine, const std::string& id) {
  Container::Question& question = entry(id).questions[&engine];
  if (question.is_asked) {
    question.ask_again = true;
    return;
  }
  question.is_asked =
      engine.link.inspect(id, [this, &engine, id](Result<std::optional<ContainerFacts>> answer) {
        inspected(engine, id, std::move(answer));
      });
}

void Source::inspected(Engine& engine, const std::string& id,
                       Result<std::optional<ContainerFacts>> answer) {
  Container& container = entry(id);
  const bool is_unknown = answer && !answer->has_value();
  const Container::Question before =
      std::exchange(container.questions[&engine], Container::Question{.is_unknown = is_unknown});
  if (!answer) {
    complain(container,
             "cannot get its labels from " + engine.link.name() + ": " + answer.error().message);
    wait(container, container.problem);
    retry_later(id);
  } else if (is_unknown) {
    not_there(engine, id);
  } else {
    container.engine = &engine;
    learn(container, std::move(**answer));
  }
  if (before.ask_again) {
    ask(engine, id);
  }
}

void Source::learn(Container& container, ContainerFacts facts) {
  if (const auto parent = parent_path(facts.cgroup_parent)) {
    remember_parent(*parent);
  }
  if (facts.pid != 0 && container.cgroup.empty()) {
    locate(container, facts.pid);
  }
  // For a container without its own cgroup, this is the only sign that it was started again.
  if (container.cgroup.empty() && container.facts &&
      (container.facts->pid != facts.pid || container.facts->started != facts.started)) {
    forget_network(container);
  }
  container.facts = std::move(facts);
  if (!container.facts->labels.empty()) {
    look_at_image(*container.engine, container.facts->image_id);
  }
  decide(container);
}

/// From now on cgroups created and removed below `parent` are reported.
void Source::remember_parent(const std::string& parent) {
  if (parents_.insert(parent).second && !parent.empty()) {
    events_.watch(parent);
  }
}

/// Finds the cgroup of a container through its process. Its creation was not reported if its parent
/// was not known: an inspection does not contain dockerd's own --cgroup-parent=.
void Source::locate(Container& container, std::uint32_t pid) {
  const auto path = kernel::CgroupTree::of(pid);
  const std::string own = path ? own_part(*path, container.id) : "";
  if (own.empty() || !tree_.id(own)) {
    return;
  }
  remember_parent(own.substr(0, own.rfind('/')));
  container.cgroup = own;
}

/// Handles the report that an engine does not know a container. Another engine of the same kind may
/// know it and may not have answered yet.
void Source::not_there(const Engine& engine, const std::string& id) {
  Container& container = entry(id);
  if ((container.engine != nullptr && container.engine != &engine) || container.is_left_alone) {
    return;
  }
  const bool was_its_own = std::exchange(container.engine, nullptr) != nullptr;
  container.facts.reset();
  const bool has_cgroup = !container.cgroup.empty() && tree_.id(container.cgroup);
  const std::vector<Engine*> others = engines_of(container);
  if (has_cgroup && !was_its_own && !std::ranges::all_of(others, [&](const Engine* other) {
        return container.questions[other].is_unknown;
      })) {
    return;
  }
  registry_.end_container(id);
  if (!has_cgroup) {
    containers_.erase(id);
    sought_.erase(id);
    forget_unused_images();
    return;
  }
  if (others.empty() || !makes_workloads()) {
    decide(container);
  } else {
    quarantine(container, engine.link.name() + " does not know this container");
  }
}

void Source::look_at_image(Engine& engine, const std::string& image_id) {
  Image& image = engine.images[image_id];
  if (image.labels || image.is_asked) {
    return;
  }
  image.is_asked = engine.link.image_labels(
      image_id, [this, &engine, image_id](Result<std::optional<RawLabels>> answer) {
        Image& asked = engine.images[image_id];
        asked.is_asked = false;
        asked.is_gone = answer && !answer->has_value();
        if (answer && answer->has_value()) {
          asked.labels = std::move(**answer);
        }
        std::vector<Container*> users;
        for (const auto& [id, container] : containers_) {
          if (container->engine == &engine && container->facts->image_id == image_id) {
            users.push_back(container.get());
          }
        }
        for (Container* user : users) {
          decide(*user);
          if (!answer) {
            retry_later(user->id);
          }
        }
      });
}

void Source::retry_later(const std::string& id) {
  if (failed_.empty()) {
    retry_.arm(kRetry);
  }
  failed_.insert(id);
}

void Source::retry() {
  for (const std::string& id : std::exchange(failed_, {})) {
    if (containers_.contains(id)) {
      inspect(id);
    }
  }
}

}  // namespace trireme::docker
