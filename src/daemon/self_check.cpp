#include "self_check.hpp"

#include <spdlog/spdlog.h>

namespace trireme::daemon {
namespace {

constexpr std::uint64_t kCheckPause = 1'000'000;  // µs
/// In one turn.
constexpr std::size_t kWorkloads = 64;
constexpr std::size_t kProcesses = 512;
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
  if (rc < 0) {
    return fail_errno("cannot set a timer", -rc);
  }
  return check;
}

SelfCheck::~SelfCheck() {
  sd_event_source_disable_unref(timer_);
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
  for (const std::string& name : names) {
    if (const workload::Workload* workload = registry_.find_name(name);
        workload != nullptr && !workload->cgroup_path.empty()) {
      check_workload(workload::Workload(*workload), limit);
    }
    if (limit == 0 || names.size() == kWorkloads) {
      checked_ = name;
    }
    if (limit == 0) {
      return;
    }
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
