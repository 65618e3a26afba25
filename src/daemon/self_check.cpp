#include "self_check.hpp"

#include <spdlog/spdlog.h>

namespace trireme::daemon {
namespace {

constexpr std::uint64_t kCheckPause = 1'000'000;  // µs
/// In one turn.
constexpr std::size_t kWorkloads = 64;
constexpr std::size_t kProcesses = 512;
/// Of commands that have just been started.
constexpr std::uint64_t kYoungPause = 20'000;  // µs
constexpr std::chrono::seconds kYoung(2);
constexpr std::size_t kMostYoung = 64;
constexpr std::size_t kYoungProcesses = 16;
/// Below everything that changes who may talk.
constexpr std::int64_t kCheckPriority = SD_EVENT_PRIORITY_NORMAL + 20;

}  // namespace

Result<std::unique_ptr<SelfCheck>> SelfCheck::open(sd_event* loop, const kernel::CgroupTree& tree,
                                                   workload::Registry& registry,
                                                   enforcer::LocalPolicy& local,
                                                   Problems& problems) {
  std::unique_ptr<SelfCheck> check(new SelfCheck(tree, registry, local, problems));
  int rc = sd_event_add_time_relative(loop, &check->timer_, CLOCK_MONOTONIC, kCheckPause, 0,
                                      on_turn, check.get());
  rc = rc < 0 ? rc : sd_event_source_set_priority(check->timer_, kCheckPriority);
  rc = rc < 0 ? rc
              : sd_event_add_time_relative(loop, &check->young_timer_, CLOCK_MONOTONIC, 0, 1,
                                           on_young, check.get());
  rc = rc < 0 ? rc : sd_event_source_set_enabled(check->young_timer_, SD_EVENT_OFF);
  if (rc < 0) {
    return fail_errno("cannot set a timer", -rc);
  }
  return check;
}

SelfCheck::~SelfCheck() {
  sd_event_source_disable_unref(timer_);
  sd_event_source_disable_unref(young_timer_);
}

void SelfCheck::watch_start(const std::string& cgroup_path) {
  if (young_.empty()) {
    sd_event_source_set_time_relative(young_timer_, kYoungPause);
    sd_event_source_set_enabled(young_timer_, SD_EVENT_ONESHOT);
  }
  young_.push_back({cgroup_path, std::chrono::steady_clock::now() + kYoung});
  if (young_.size() > kMostYoung) {
    young_.pop_front();
  }
}

int SelfCheck::on_young(sd_event_source* source, std::uint64_t /*usec*/, void* self) {
  auto& check = *static_cast<SelfCheck*>(self);
  check.check_young();
  if (check.young_.empty()) {
    return 0;
  }
  sd_event_source_set_time_relative(source, kYoungPause);
  return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

void SelfCheck::check_young() {
  const auto now = std::chrono::steady_clock::now();
  while (!young_.empty() && young_.front().until < now) {
    young_.pop_front();
  }
  for (const Young& young : young_) {
    std::size_t limit = kYoungProcesses;
    if (registry_.check_networks(young.cgroup_path, limit)) {
      moves_++;
    }
  }
}

int SelfCheck::on_turn(sd_event_source* source, std::uint64_t /*usec*/, void* self) {
  auto& check = *static_cast<SelfCheck*>(self);
  const auto mended = check.local_.check_programs();
  check.problems_.note("the gate's programs",
                       mended ? Status{} : Status(tl::unexpected(mended.error())));
  check.note_gate(mended, "its programs were gone");
  check.check_workloads();
  sd_event_source_set_time_relative(source, kCheckPause);
  return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

void SelfCheck::note_gate(const Result<bool>& mended, const std::string& what) {
  if (!mended) {
    spdlog::error("the gate was changed by another program: {}; cannot be mended: {}", what,
                  mended.error().text());
  } else if (*mended) {
    gate_repairs_++;
    spdlog::error("the gate was changed by another program: {}; mended", what);
  }
}

void SelfCheck::check_workloads() {
  std::vector<std::string> names;
  for (const workload::Workload* workload : registry_.after(checked_, kWorkloads)) {
    names.push_back(workload->name);
  }
  checked_.clear();  // from the start again, where this was the end
  std::size_t limit = kProcesses;
  std::string before;
  for (const std::string& name : names) {
    if (const workload::Workload* workload = registry_.find_name(name);
        workload != nullptr && !workload->cgroup_path.empty()) {
      check_workload(workload::Workload(*workload), limit);
    }
    if (limit == 0) {
      // Not all of this one, perhaps: it comes first in the next turn.
      checked_ = before.empty() ? name : before;
      return;
    }
    if (names.size() == kWorkloads) {
      checked_ = name;
    }
    before = name;
  }
}

void SelfCheck::check_workload(const workload::Workload& workload, std::size_t& limit) {
  const auto id = tree_.id(workload.cgroup_path);
  if (!id || *id != workload.cgroup_id) {
    return;  // news of its end are on their way
  }
  note_gate(local_.check_number(*id), "the number of " + workload.name);
  if (registry_.check_networks(workload.cgroup_path, limit)) {
    moves_++;
  }
}

}  // namespace trireme::daemon
