// SPDX-License-Identifier: Apache-2.0
// How workloads leave the registry: their cgroup or container ends, or they are none any more.
#include <spdlog/spdlog.h>

#include "record.hpp"
#include "registry_reference.hpp"
#include "trireme/base/log_shares.hpp"
#include "trireme/workload/process.hpp"
#include "trireme/workload/registry.hpp"

namespace trireme::workload {

void Registry::end_cgroup(const std::string& cgroup_path) {
  const Workload* workload = find_cgroup(cgroup_path);
  if (workload == nullptr) {
    return;
  }
  if (const auto id = tree_.id(cgroup_path); id && *id == workload->cgroup_id) {
    return;
  }
  log_left(*workload);
  end(cgroup_path);
}

/// Processes that other services started for the command (su, systemd-run, at, cron) can outlive
/// it. To the user they look like a part of the workload, so its end is logged.
void Registry::log_left(const Workload& workload) const {
  if (workload.kind != Kind::process || !log_shares().admit("workload " + workload.name)) {
    return;
  }
  const auto cgroup = kernel::CgroupTree::of(workload.pid);
  if (workload.started != 0 && start_time(workload.pid) == workload.started && cgroup &&
      !tree_.is_removed(*cgroup)) {
    spdlog::warn(
        "workload {} has ended: its process {} has moved to cgroup {} and is no longer part of the "
        "workload",
        workload.name, workload.pid, *cgroup);
  } else {
    spdlog::info("workload {} has ended: its last process has left the scope", workload.name);
  }
}

void Registry::end_container(const std::string& container_id) {
  const Workload* workload = find_container(container_id);
  if (workload == nullptr) {
    return;
  }
  if (workload->cgroup_path.empty()) {
    workload->state == State::unenforced ? forget(container_id) : end(container_id);
    return;
  }
  const auto id = tree_.id(workload->cgroup_path);
  if (!id || *id != workload->cgroup_id) {
    end(workload->cgroup_path);
  } else if (tree_.populated(workload->cgroup_path)) {
    std::ignore = block(*workload, "its container has ended, but processes remain");
  } else {
    forget_record(workload->cgroup_path);
    end(workload->cgroup_path);
  }
}

void Registry::forget_record(const std::string& cgroup_path) const {
  if (auto cleared = clear_record(tree_, cgroup_path); !cleared) {
    spdlog::warn("workload {}: {}", cgroup_path, cleared.error().text());
  }
}

void Registry::release(const std::string& cgroup_path) {
  const Workload* workload = find_cgroup(cgroup_path);
  CgroupRef cgroup;
  if (workload != nullptr && hold_on(*workload) != nullptr) {
    return;
  }
  if (workload != nullptr) {
    forget_record(cgroup_path);
    cgroup = reference(*workload, true);
  } else if (const auto id = tree_.id(cgroup_path); !cgroup_path.empty() && id) {
    cgroup = {.id = *id, .level = kernel::CgroupTree::level(cgroup_path), .path = cgroup_path};
  } else {
    return;
  }
  if (auto released = enforcement_.release(cgroup, workload == nullptr ? 0 : workload->number);
      !released) {
    spdlog::error("cgroup {}: cannot remove it from the kernel: {}", cgroup_path,
                  released.error().text());
  }
  if (workload != nullptr) {
    forget(std::string(cgroup_path));
  }
}

void Registry::end(const std::string& key) {
  const Workload& workload = by_key_.at(key);
  if (auto ended = enforcement_.end(reference(workload, true), workload.number);
      !ended && log_shares().admit("workload " + workload.name)) {
    spdlog::error("workload {}: cannot remove it from the kernel: {}", workload.name,
                  ended.error().text());
  }
  forget(key);
}

}  // namespace trireme::workload
