// SPDX-License-Identifier: Apache-2.0
// What the registry keeps on a workload's cgroup, so that a restarted daemon finds it.
#pragma once

#include <optional>

#include "trireme/kernel/cgroup.hpp"
#include "trireme/workload/workload.hpp"

namespace trireme::workload {

struct Record {
  Workload workload;  // everything but `labels`, `warnings` and `places`
  struct Place {
    std::uint64_t network = 0;  // inode number of the namespace; 0: it was the daemon's own
    bool whole_network = false;
  };
  std::vector<Place> places;
};

/// Writes both xattrs; a workload without a cgroup has none. The labels are the workload's own:
/// [host] labels are added when it is read, as they are then.
[[nodiscard]] Status write_record(const kernel::CgroupTree& tree, const Workload& workload);

/// Clears both xattrs; a cgroup that is gone is fine.
[[nodiscard]] Status clear_record(const kernel::CgroupTree& tree, const std::string& cgroup_path);

/// Takes a workload from its cgroup. nullopt: no record, or that of another network namespace's
/// daemon. Errors: unreadable, labels that the record was not written for (a crash between the two)
/// included.
[[nodiscard]] Result<std::optional<Record>> read_record(const kernel::CgroupTree& tree,
                                                        const std::string& cgroup_path);

/// Every cgroup path with a record, another daemon's and unreadable ones included.
[[nodiscard]] std::vector<std::string> find_records(const kernel::CgroupTree& tree);

}  // namespace trireme::workload
