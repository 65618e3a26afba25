// SPDX-License-Identifier: Apache-2.0
#include "trireme/docker/source.hpp"

// The engines that are asked, and events about cgroups. reports.cpp has what the engines report,
// settle.cpp decides what follows.

#include <algorithm>
#include <utility>

#include "cgroup.hpp"
#include "link.hpp"
#include "state.hpp"

namespace trireme::docker {
namespace {

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

}  // namespace trireme::docker
