// SPDX-License-Identifier: Apache-2.0
#include "trireme/workload/cgroup_events.hpp"

#include <spdlog/spdlog.h>
#include <sys/epoll.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "trireme/base/log_shares.hpp"

namespace trireme::workload {
namespace {

/// The parents of containers' cgroups with the cgroupfs driver of Docker and of Podman.
constexpr const char* kContainerParents[] = {"/docker", "/libpod_parent"};

/// Quarantine must be in the kernel before a container's first instruction, so creation of cgroups
/// is handled before everything else on the loop.
constexpr std::int64_t kPriority = event::kImportant - 10;
/// The minimum interval between listings of directories that cannot be watched.
constexpr std::chrono::milliseconds kPoll(20);
/// The pause after a listing, in multiples of the time that it took.
constexpr int kPollRests = 9;

std::string join(const std::string& parent, const std::string& name) {
  return (parent == "/" ? "" : parent) + "/" + name;
}

}  // namespace

Result<std::unique_ptr<CgroupEvents>> CgroupEvents::create(sd_event* loop,
                                                           const kernel::CgroupTree& tree,
                                                           Registry& registry,
                                                           Enforcement& enforcement,
                                                           std::string strict_slice) {
  std::unique_ptr<CgroupEvents> events(new CgroupEvents(
      loop, tree, kernel::CgroupWatch(tree), registry, enforcement, std::move(strict_slice)));
  if (Status opened = events->poll_.open(
          loop, [&made = *events] { made.poll_missed(); }, kPriority, event::kExact);
      !opened) {
    return tl::unexpected(opened.error());
  }
  return events;
}

CgroupEvents::CgroupEvents(sd_event* loop, const kernel::CgroupTree& tree,
                           kernel::CgroupWatch watch, Registry& registry, Enforcement& enforcement,
                           std::string strict_slice)
    : loop_(loop),
      tree_(tree),
      watch_(std::move(watch)),
      registry_(registry),
      enforcement_(enforcement),
      strict_slice_(std::move(strict_slice)),
      asked_(std::begin(kContainerParents), std::end(kContainerParents)) {}

void CgroupEvents::add_source(Source& source) {
  sources_.push_back(&source);
}

void CgroupEvents::watch(const std::string& parent) {
  if (!asked_.insert(parent).second || !started_) {
    return;
  }
  // Ancestors that were not watched yet are parents now and must be watched too.
  std::string path;
  for (std::size_t end = parent.find('/', 1);; end = parent.find('/', end + 1)) {
    path = parent.substr(0, end);
    if (known_.contains(path)) {
      watch_and_list(path);
    }
    if (end == std::string::npos) {
      return;
    }
  }
}

Status CgroupEvents::start() {
  if (const auto there = tree_.id("/"); !there) {
    return tl::unexpected(there.error());
  }
  if (auto followed = follow(); !followed) {
    return followed;
  }
  started_ = true;
  watch_and_list("/");
  // End workloads of an earlier daemon whose cgroups were removed before they were watched; no
  // event will report them.
  std::vector<std::string> lost;
  for (const Workload* workload : registry_.all()) {
    if (!workload->cgroup_path.empty() && !tree_.id(workload->cgroup_path)) {
      lost.push_back(workload->cgroup_path);
    }
  }
  std::ranges::for_each(lost, [this](const std::string& path) { registry_.end_cgroup(path); });
  return {};
}

/// Adds the inotify descriptor to the event loop if one is available. Errors: those of the event
/// loop.
Status CgroupEvents::follow() {
  return readable_.is_open() || !watch_.open()
             ? Status{}
             : readable_.open(
                   loop_, watch_.fd(), EPOLLIN, [this](std::uint32_t /*events*/) { read_events(); },
                   kPriority);
}

void CgroupEvents::miss(const std::string& path, const Error& error) {
  if (missed_.empty()) {
    poll_.arm(kPoll);
  }
  missed_.insert(path);
  problem_ = error;
}

/// Finds cgroups created and removed below directories that cannot be watched, then tries to watch
/// these directories again.
void CgroupEvents::poll() {
  const std::set<std::string> missed = std::exchange(missed_, {});
  std::vector<std::string> ended;
  for (const auto& [path, id] : known_) {
    const std::string parent = path.substr(0, std::max<std::size_t>(1, path.rfind('/')));
    if (const auto now = missed.contains(parent) ? tree_.id(path) : id; !now || *now != id) {
      ended.push_back(path);
    }
  }
  std::ranges::for_each(ended, [this](const std::string& path) { gone(path); });
  if (Status followed = follow(); !followed) {
    problem_ = followed.error();
  }
  for (const std::string& path : missed) {
    if (path == "/" || known_.contains(path)) {
      watch_and_list(path);
    }
  }
  if (missed_.empty()) {
    problem_.reset();
    poll_.disarm();
  }
}

/// Uses at most a tenth of the time for polling.
void CgroupEvents::poll_missed() {
  const auto began = std::chrono::steady_clock::now();
  poll();
  if (!missed_.empty()) {
    const auto taken = std::chrono::duration_cast<std::chrono::microseconds>(
        std::chrono::steady_clock::now() - began);
    poll_.arm(std::max<std::chrono::microseconds>(kPoll, kPollRests * taken));
  }
}

void CgroupEvents::rescan() {
  std::vector<std::string> lost;
  for (const auto& [path, id] : known_) {
    const auto now = tree_.id(path);
    if (!now || *now != id) {
      lost.push_back(path);
    }
  }
  std::ranges::for_each(lost, [this](const std::string& path) { gone(path); });
  watch_and_list("/");
  for (const std::string& path : known()) {
    if (is_parent(path)) {
      watch_and_list(path);
    }
  }
}

std::vector<std::string> CgroupEvents::known() const {
  std::vector<std::string> paths;
  paths.reserve(known_.size());
  std::ranges::transform(known_, std::back_inserter(paths),
                         [](const auto& item) { return item.first; });
  std::ranges::sort(paths);
  return paths;
}

void CgroupEvents::read_events() {
  for (const auto& event : watch_.drain()) {
    switch (event.what) {
      case kernel::CgroupWatch::Event::What::born:
        born(event.path);
        break;
      case kernel::CgroupWatch::Event::What::gone:
        gone(event.path);
        break;
      case kernel::CgroupWatch::Event::What::overflow:
        if (log_shares().admit("cgroup events")) {
          spdlog::warn("cgroup events were lost; scanning all cgroups again");
        }
        rescan();
        break;
    }
  }
}

bool CgroupEvents::is_parent(const std::string& path) const {
  if (path.ends_with(".slice") || asked_.contains(path)) {
    return true;
  }
  const auto below = asked_.lower_bound(path + "/");  // an ancestor of a requested parent
  return below != asked_.end() && below->starts_with(path + "/");
}

void CgroupEvents::watch_and_list(const std::string& path) {
  if (auto watched = watch_.add(path); !watched) {
    if (!tree_.id(path)) {
      return;
    }
    miss(path, watched.error());
  } else {
    missed_.erase(path);
  }
  list(path);
}

void CgroupEvents::list(const std::string& path) {
  for (const std::string& name : tree_.children(path)) {
    born(join(path, name));
  }
}

void CgroupEvents::born(const std::string& path) {
  const auto id = tree_.id(path);
  if (!id) {
    return;  // removed already; the removal is reported separately
  }
  const auto known = known_.find(path);
  if (known != known_.end() && known->second == *id) {
    return;
  }
  if (known != known_.end()) {
    gone(path);
  }
  known_[path] = *id;
  if (path == strict_slice_) {
    deny_strict(*id);
  }
  std::ignore =
      std::ranges::any_of(sources_, [&](Source* source) { return source->cgroup_born(path); });
  if (is_parent(path)) {
    watch_and_list(path);
  }
}

void CgroupEvents::gone(const std::string& path) {
  const auto known = known_.find(path);
  if (known == known_.end()) {
    return;
  }
  if (const auto id = tree_.id(path); id && *id == known->second) {
    return;  // the event is about an older directory; this one was found by listing
  }
  const std::uint64_t id = known->second;
  known_.erase(known);
  std::ranges::for_each(sources_, [&](Source* source) { source->cgroup_gone(path); });
  registry_.end_cgroup(path);
  if (path == strict_slice_) {
    if (auto ended = enforcement_.end({.id = id}, 0); !ended) {
      spdlog::error("{}: {}", path, ended.error().text());
    }
  }
}

void CgroupEvents::deny_strict(std::uint64_t id) {
  if (auto denied = enforcement_.quarantine({.id = id,
                                             .level = kernel::CgroupTree::level(strict_slice_),
                                             .path = strict_slice_,
                                             .has_no_old_flows = true,
                                             .is_default = true});
      !denied) {
    spdlog::error("{}: cannot deny the traffic of unknown cgroups below it: {}", strict_slice_,
                  denied.error().text());
  }
}

}  // namespace trireme::workload
