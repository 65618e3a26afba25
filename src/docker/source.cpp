// SPDX-License-Identifier: Apache-2.0
#include "trireme/docker/source.hpp"

// Receives events about cgroups and from the engines. settle.cpp decides what follows from them.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "cgroup.hpp"
#include "link.hpp"
#include "state.hpp"

namespace trireme::docker {
namespace {

constexpr std::chrono::seconds kRetry(1);

/// The same priority as creation of cgroups, because the search is part of the same start.
constexpr std::int64_t kSeekPriority = event::kImportant - 10;

}  // namespace

Source::Source(sd_event* loop, const kernel::CgroupTree& tree, workload::Registry& registry,
               workload::CgroupEvents& events)
    : loop_(loop),
      tree_(tree),
      registry_(registry),
      events_(events),
      host_(std::make_shared<config::Host>()) {
  for (const Status& opened : {retry_.open(
                                   loop_, [this] { retry(); }, event::kNormal, event::kExact),
                               seek_.open(
                                   loop_, [this] { seek_all(); }, kSeekPriority, event::kExact),
                               declare_.open(loop_, [this] { declare(); })}) {
    event::require(loop_, opened);
  }
}

Source::~Source() = default;

void Source::configure(std::shared_ptr<const config::Host> host) {
  const bool before = makes_workloads();
  host_ = std::move(host);
  if (before != makes_workloads() || is_off()) {
    forget_all();
  }
  if (is_off()) {
    declare_soon();
    return;
  }
  connect();
  declare_soon();
  look_at_cgroups();
  for (Container* container : all()) {
    decide(*container);
  }
}

/// Creates one engine for each configured socket; engines that already exist stay connected.
void Source::connect() {
  std::vector<std::unique_ptr<Engine>> before = std::exchange(engines_, {});
  for (const std::string& socket : settings().sockets) {
    const auto known = std::ranges::find_if(before, [&](const auto& engine) {
      return engine != nullptr && engine->link.socket() == socket;
    });
    if (known != before.end()) {
      engines_.push_back(std::move(*known));
      continue;
    }
    const auto index = std::make_shared<Engine*>(nullptr);
    engines_.push_back(std::make_unique<Engine>(
        loop_, Link::Handlers{[this, index](const Event& event) { on_event(**index, event); },
                              [this, index](std::vector<ContainerFacts> all) {
                                on_listing(**index, std::move(all));
                              }}));
    *index = engines_.back().get();
    engines_.back()->link.connect(socket);
    engines_.back()->kind = engines_.back()->link.kind();
  }
  for (const auto& engine : before) {
    if (engine != nullptr) {
      drop_engine(*engine);
    }
  }
}

/// Discards what the engine reported. Its enforced containers stay enforced until another engine
/// reports them or no engine of their kind is configured.
void Source::drop_engine(const Engine& engine) {
  for (Container* container : all()) {
    container->questions.erase(&engine);
    if (container->engine != &engine) {
      continue;
    }
    container->engine = nullptr;
    container->facts.reset();
    if (container->cgroup.empty()) {  // its engine cannot be determined any more
      registry_.end_container(container->id);
      containers_.erase(std::string(container->id));
    }
  }
}

/// Handles every existing cgroup as if it were created now. New cgroups were ignored while
/// containers = "none" was set, and assigned to the wrong engine while its kind was not known.
void Source::look_at_cgroups() {
  for (const std::string& path : events_.known()) {
    std::ignore = cgroup_born(path);
  }
}

/// The engines to query about this container: the one that knows it, otherwise all of its kind. An
/// engine whose kind is not known yet is included.
std::vector<Source::Engine*> Source::engines_of(const Container& container) const {
  if (container.engine != nullptr) {
    return {container.engine};
  }
  std::vector<Engine*> fitting;
  const std::string name = container.cgroup.substr(container.cgroup.rfind('/') + 1);
  for (const auto& engine : engines_) {
    if (name.empty() || !engine->kind || *engine->kind == engine_of_cgroup(name)) {
      fitting.push_back(engine.get());
    }
  }
  return fitting;
}

/// Removes all containers from the registry, including those of an earlier daemon, but not those
/// that an operator's order covers.
void Source::forget_all() {
  engines_.clear();
  containers_.clear();
  failed_.clear();
  sought_.clear();
  std::vector<workload::Workload> known;
  for (const workload::Workload* workload : registry_.all()) {
    if (workload->kind == workload::Kind::container && registry_.hold_on(*workload) == nullptr) {
      known.push_back(*workload);
    }
  }
  for (const workload::Workload& workload : known) {
    workload.cgroup_path.empty() ? registry_.end_container(workload.container_id)
                                 : registry_.release(workload.cgroup_path);
  }
}

std::vector<Source::Container*> Source::all() const {
  std::vector<Container*> pointers;
  std::ranges::transform(containers_, std::back_inserter(pointers),
                         [](const auto& item) { return item.second.get(); });
  return pointers;
}

std::string Source::status() const {
  std::string line;
  for (const auto& engine : engines_) {
    const auto running = std::ranges::count_if(containers_, [&](const auto& item) {
      return item.second->engine == engine.get() && item.second->facts->is_running;
    });
    line += (line.empty() ? "" : "; ") + engine->link.state();
    line += engine->link.is_connected()
                ? ", " + std::to_string(running) + (running == 1 ? " container" : " containers")
                : "";
  }
  const auto left = std::ranges::count_if(
      containers_, [](const auto& item) { return item.second->is_left_alone; });
  if (left != 0) {
    line += "; " + std::to_string(left) + (left == 1 ? " container" : " containers") +
            " left alone (engine not configured)";
  }
  return line.empty() ? "not used" : line;
}

std::vector<KnownContainer> Source::known() const {
  static const RawLabels none;
  std::vector<KnownContainer> list;
  if (!makes_workloads()) {
    return list;
  }
  for (const auto& [id, container] : containers_) {
    const bool is_running =
        !container->cgroup.empty() || (container->facts && container->facts->is_running);
    if (!is_running) {
      continue;
    }
    KnownContainer known{.id = id,
                         .name = id.substr(0, 12),
                         .cgroup = container->cgroup,
                         .network = nullptr,
                         .is_placed = !container->places.empty(),
                         .labels = std::nullopt,
                         .image_labels = std::nullopt};
    if (known.is_placed) {
      known.network = container->places.front().network;
    }
    if (container->facts) {
      known.name = container->facts->name.empty() ? known.name : container->facts->name;
      known.labels = container->facts->labels;
      const Image* image = container->engine == nullptr ? nullptr : image_of(*container);
      known.image_labels = image != nullptr                   ? image->labels
                           : container->facts->labels.empty() ? std::optional(none)
                                                              : std::nullopt;
    }
    list.push_back(std::move(known));
  }
  return list;
}

// --- cgroup events ---

std::string Source::container_of(const std::string& path) const {
  const std::size_t slash = path.rfind('/');
  const std::string name = path.substr(slash + 1);
  if (std::string id = id_of_scope(name); !id.empty()) {
    return id;
  }
  const std::string parent = path.substr(0, slash);
  const bool known = parent == "/docker" || parent == "/libpod_parent" || parents_.contains(parent);
  return known ? id_of_directory(name) : "";
}

Source::Container& Source::entry(const std::string& id) {
  auto& container = containers_[id];
  if (!container) {
    container = std::make_unique<Container>();
    container->id = id;
  }
  return *container;
}

bool Source::cgroup_born(const std::string& path) {
  if (is_off()) {
    return false;
  }
  const std::string id = container_of(path);
  if (id.empty()) {
    return false;
  }
  Container& container = entry(id);
  if (container.cgroup != path) {
    begin_start(container, path);
  }
  decide(container);
  if (!container.is_left_alone && (!container.facts || !container.facts->is_inspected)) {
    inspect(id);
  }
  return true;
}

void Source::cgroup_gone(const std::string& path) {
  const std::string id = container_of(path);
  if (const auto found = containers_.find(id);
      !id.empty() && found != containers_.end() && found->second->cgroup == path) {
    forget_start(*found->second);
    declare_soon();
    if (found->second->is_left_alone) {
      registry_.end_container(id);  // no engine will report that it has ended
      containers_.erase(found);
    }
  }
}

// --- reports from an engine ---

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
