// SPDX-License-Identifier: Apache-2.0
#include "self_check.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>

namespace trireme::daemon {
namespace {

constexpr std::chrono::seconds kCheckPause(1);
/// Limits for one turn.
constexpr std::size_t kWorkloads = 64;
constexpr std::size_t kProcesses = 512;
constexpr std::size_t kShare = 64;  // processes of one workload
/// For commands that have just been started.
constexpr std::chrono::milliseconds kYoungPause(20);
constexpr std::chrono::seconds kYoung(2);
constexpr std::size_t kMostYoung = 64;
constexpr std::size_t kYoungProcesses = 16;
/// After all events that change what is enforced.
constexpr std::int64_t kCheckPriority = event::kNormal + 20;

}  // namespace

Result<std::unique_ptr<SelfCheck>> SelfCheck::open(sd_event* loop, const kernel::CgroupTree& tree,
                                                   workload::Registry& registry,
                                                   enforcer::LocalPolicy& local,
                                                   Problems& problems) {
  std::unique_ptr<SelfCheck> check(new SelfCheck(tree, registry, local, problems));
  for (Status opened :
       {check->timer_.open(
            loop, [&made = *check] { made.check(); }, kCheckPriority),
        check->young_timer_.open(
            loop, [&made = *check] { made.check_young(); }, event::kNormal, event::kExact)}) {
    if (!opened) {
      return tl::unexpected(opened.error());
    }
  }
  check->timer_.arm(kCheckPause);
  return check;
}

void SelfCheck::watch_start(const std::string& cgroup_path) {
  if (young_.empty()) {
    young_timer_.arm(kYoungPause);
  }
  young_.push_back(
      {workload::NetworkSurvey(cgroup_path), std::chrono::steady_clock::now() + kYoung});
  if (young_.size() > kMostYoung) {
    young_.pop_front();
  }
}

void SelfCheck::check_young() {
  const auto now = std::chrono::steady_clock::now();
  while (!young_.empty() && young_.front().until < now) {
    young_.pop_front();
  }
  for (Young& young : young_) {
    std::size_t limit = kYoungProcesses;
    check_networks(young.survey, limit);
  }
  if (!young_.empty()) {
    young_timer_.arm(kYoungPause);
  }
}

void SelfCheck::check() {
  const auto repaired = local_.check_programs();
  problems_.note("the gate's programs",
                 repaired ? Status{} : Status(tl::unexpected(repaired.error())));
  note_gate(repaired, "its programs were detached");
  check_workloads();
  timer_.arm(kCheckPause);
}

void SelfCheck::note_gate(const Result<bool>& repaired, const std::string& what) {
  if (!repaired) {
    spdlog::error("another program changed the gate: {}; repair failed: {}", what,
                  repaired.error().text());
  } else if (*repaired) {
    gate_repairs_++;
    spdlog::error("another program changed the gate: {}; repaired", what);
  }
}

/// Each workload gets a share of the processes that one turn can check; workloads with more
/// processes then get what is left. If the turn ends before all workloads were checked, the next
/// turn begins with the first unchecked one.
void SelfCheck::check_workloads() {
  std::vector<workload::Workload> workloads;
  for (const workload::Workload* workload : registry_.after(checked_, kWorkloads)) {
    workloads.push_back(*workload);
  }
  const bool is_end = workloads.size() < kWorkloads;
  std::size_t left = kProcesses;
  std::size_t checked = 0;
  for (; checked < workloads.size() && left > 0; checked++) {
    const std::size_t share = std::min(left, kShare);
    left -= share - check_workload(workloads[checked], share);
  }
  checked_ = checked == workloads.size() && is_end ? "" : workloads[checked - 1].name;
  for (const workload::Workload& workload : workloads) {
    if (const auto survey = surveys_.find(workload.cgroup_id);
        survey != surveys_.end() && !survey->second.is_complete()) {
      check_networks(survey->second, left);
    }
  }
  std::erase_if(surveys_, [this](const auto& item) {
    const workload::Workload* workload = registry_.find_cgroup(item.second.cgroup());
    return item.second.is_complete() || workload == nullptr || workload->cgroup_id != item.first;
  });
}

/// Returns how many processes of the limit are left.
std::size_t SelfCheck::check_workload(const workload::Workload& workload, std::size_t limit) {
  if (workload.cgroup_path.empty()) {
    return limit;
  }
  const auto id = tree_.id(workload.cgroup_path);
  if (!id || *id != workload.cgroup_id) {
    return limit;  // the cgroup is gone; the event that ends the workload has not arrived yet
  }
  note_gate(local_.check_number(*id), "the number of workload " + workload.name);
  if (const auto begun = surveys_.find(*id); begun != surveys_.end()) {
    check_networks(begun->second, limit);
    return limit;
  }
  workload::NetworkSurvey survey(workload.cgroup_path);
  check_networks(survey, limit);
  if (limit == 0 && !survey.is_complete()) {
    surveys_.emplace(*id, std::move(survey));
  }
  return limit;
}

/// A survey that is complete starts from the beginning.
void SelfCheck::check_networks(workload::NetworkSurvey& survey, std::size_t& limit) {
  if (survey.is_complete()) {
    survey = workload::NetworkSurvey(survey.cgroup());
  }
  if (limit > 0 && registry_.check_networks(survey, limit)) {
    moves_++;
  }
}

}  // namespace trireme::daemon
