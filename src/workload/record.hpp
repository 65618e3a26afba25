// SPDX-License-Identifier: Apache-2.0
// The record that the registry stores in xattrs of a workload's cgroup, for a restarted daemon.
#pragma once

#include <optional>

#include "trireme/kernel/cgroup.hpp"
#include "trireme/workload/workload.hpp"

namespace trireme::workload {

struct Record {
  Workload workload;  // everything but `labels`, `warnings` and `places`
  struct Place {
    std::uint64_t network = 0;  // inode number of the namespace; 0: the daemon's own
    bool whole_network = false;
  };
  std::vector<Place> places;
};

/// Writes both xattrs. Does nothing for a workload without a cgroup. Only the workload's own labels
/// are stored; the [host] labels of the time are added when the record is read.
[[nodiscard]] Status write_record(const kernel::CgroupTree& tree, const Workload& workload);

/// Removes both xattrs. It is not an error if the cgroup no longer exists.
[[nodiscard]] Status clear_record(const kernel::CgroupTree& tree, const std::string& cgroup_path);

/// Reads the workload that is stored on a cgroup. nullopt: no record, or a record of the daemon of
/// another network namespace. Errors: the record is unreadable, or its labels do not belong to it
/// (the daemon crashed between writing the two xattrs).
[[nodiscard]] Result<std::optional<Record>> read_record(const kernel::CgroupTree& tree,
                                                        const std::string& cgroup_path);

/// Every cgroup path with a record, including unreadable records and those of other daemons.
[[nodiscard]] std::vector<std::string> find_records(const kernel::CgroupTree& tree);

}  // namespace trireme::workload
