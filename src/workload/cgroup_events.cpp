#include "trireme/workload/cgroup_events.hpp"

#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <systemd/sd-event.h>

#include <algorithm>
#include <utility>

#include "trireme/base/log_shares.hpp"

namespace trireme::workload {
namespace {

/// Parents of containers where the cgroupfs driver is used: Docker's, and Podman's.
constexpr const char* kContainerParents[] = {"/docker", "/libpod_parent"};

/// Quarantine must be in the kernel before a container's first instruction, so births go before
/// everything else on the loop.
constexpr std::int64_t kPriority = SD_EVENT_PRIORITY_IMPORTANT - 10;

std::string join(const std::string& parent, const std::string& name) {
  return (parent == "/" ? "" : parent) + "/" + name;
}

}  // namespace

Result<std::unique_ptr<CgroupEvents>> CgroupEvents::create(sd_event* loop,
                                                           const kernel::CgroupTree& tree,
                                                           Registry& registry,
                                                           Enforcement& enforcement,
                                                           std::string strict_slice) {
  auto watch = kernel::CgroupWatch::open(tree);
  if (!watch) {
    return tl::unexpected(watch.error());
  }
  return std::unique_ptr<CgroupEvents>(new CgroupEvents(loop, tree, std::move(*watch), registry,
                                                        enforcement, std::move(strict_slice)));
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

CgroupEvents::~CgroupEvents() {
  sd_event_source_disable_unref(readable_);
}

void CgroupEvents::add_source(Source& source) {
  sources_.push_back(&source);
}

void CgroupEvents::watch(const std::string& parent) {
  if (!asked_.insert(parent).second || !started_) {
    return;
  }
  // Ancestors in between that nobody watched yet are parents now; what is known of them stays
  // known.
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
  if (auto watched = watch_.add("/"); !watched) {
    return watched;
  }
  const int rc = sd_event_add_io(loop_, &readable_, watch_.fd(), EPOLLIN, on_readable, this);
  if (rc < 0 || sd_event_source_set_priority(readable_, kPriority) < 0) {
    return fail_errno("cannot watch cgroups", rc < 0 ? -rc : EINVAL);
  }
  started_ = true;
  watch_and_list("/");
  // Of an earlier daemon's workloads, those whose cgroups went away before they were watched:
  // nobody will tell.
  std::vector<std::string> lost;
  for (const Workload* workload : registry_.all()) {
    if (!workload->cgroup_path.empty() && !tree_.id(workload->cgroup_path)) {
      lost.push_back(workload->cgroup_path);
    }
  }
  std::ranges::for_each(lost, [this](const std::string& path) { registry_.end_cgroup(path); });
  return {};
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

int CgroupEvents::on_readable(sd_event_source*, int, std::uint32_t, void* self) {
  auto& events = *static_cast<CgroupEvents*>(self);
  for (const auto& event : events.watch_.drain()) {
    switch (event.what) {
      case kernel::CgroupWatch::Event::What::born:
        events.born(event.path);
        break;
      case kernel::CgroupWatch::Event::What::gone:
        events.gone(event.path);
        break;
      case kernel::CgroupWatch::Event::What::overflow:
        if (log_shares().admit("cgroup events")) {
          spdlog::warn("cgroup events were lost; looking at every cgroup again");
        }
        events.rescan();
        break;
    }
  }
  return 0;
}

bool CgroupEvents::is_parent(const std::string& path) const {
  if (path.ends_with(".slice") || asked_.contains(path)) {
    return true;
  }
  const auto below = asked_.lower_bound(path + "/");  // the way to something asked for
  return below != asked_.end() && below->starts_with(path + "/");
}

void CgroupEvents::watch_and_list(const std::string& path) {
  if (auto watched = watch_.add(path); !watched) {
    if (tree_.id(path)) {
      spdlog::error("{}", watched.error().text());
    }
    return;
  }
  for (const std::string& name : tree_.children(path)) {
    born(join(path, name));
  }
}

void CgroupEvents::born(const std::string& path) {
  const auto id = tree_.id(path);
  if (!id) {
    return;  // its end follows, or has been told
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
    return;  // news of an older directory; this one was found by listing
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
                                             .settled = true,
                                             .is_default = true});
      !denied) {
    spdlog::error("{}: what is unknown below it is not denied: {}", strict_slice_,
                  denied.error().text());
  }
}

}  // namespace trireme::workload
