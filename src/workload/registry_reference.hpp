// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "trireme/kernel/cgroup.hpp"
#include "trireme/workload/enforcement.hpp"

namespace trireme::workload {

/// The workload's cgroup in one of its places.
inline CgroupRef reference(const Workload& workload, const Place& place, bool has_no_old_flows) {
  return {.id = workload.cgroup_id,
          .level = kernel::CgroupTree::level(workload.cgroup_path),
          .path = workload.cgroup_path,
          .has_no_old_flows = has_no_old_flows,
          .network = place.network,
          .whole_network = place.whole_network,
          .unowned = workload.kind != Kind::container,
          .lone_sockets = workload.kind == Kind::unit && workload.cgroup_path.ends_with(".socket"),
          .former = workload.former};
}

/// In the workload's first place; in the daemon's network namespace while no place is known.
inline CgroupRef reference(const Workload& workload, bool has_no_old_flows) {
  return reference(workload, workload.places.empty() ? Place{} : workload.places.front(),
                   has_no_old_flows);
}

}  // namespace trireme::workload
