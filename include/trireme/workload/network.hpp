// SPDX-License-Identifier: Apache-2.0
// Finds the network namespaces of processes, for the sources and the registry.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "trireme/kernel/cgroup.hpp"
#include "trireme/kernel/netns.hpp"

namespace trireme::workload {

/// Inode number of the daemon's own network namespace; 0 if /proc cannot be read.
[[nodiscard]] std::uint64_t own_network();
/// Inode number of a process's network namespace; 0 if the process has exited.
[[nodiscard]] std::uint64_t network_of_process(std::uint32_t pid);
/// Null means the daemon's own network namespace.
[[nodiscard]] bool is_same_network(const std::shared_ptr<const kernel::Netns>& one,
                                   const std::shared_ptr<const kernel::Netns>& other);

/// Visits the threads of a cgroup and of the cgroups below it and collects their network
/// namespaces. It can be done in steps, so that a cgroup with many threads does not delay other
/// work.
class NetworkSurvey {
 public:
  explicit NetworkSurvey(const std::string& cgroup) : cgroup_(cgroup), open_{cgroup} {}
  /// Continues the survey. Looks at no more than `limit` threads (a cgroup without threads counts
  /// as one) and subtracts the number that it looked at from `limit`.
  void go_on(const kernel::CgroupTree& tree, std::size_t& limit);
  /// True if every thread that existed during the whole survey has been looked at.
  [[nodiscard]] bool is_complete() const { return open_.empty(); }
  [[nodiscard]] const std::string& cgroup() const { return cgroup_; }
  /// Network namespaces by inode number, each with the last thread that was seen in it.
  [[nodiscard]] const std::map<std::uint64_t, std::uint32_t>& found() const { return found_; }

 private:
  std::string cgroup_;
  std::vector<std::string> open_;  // cgroups still to visit; the last one is in progress
  std::uint32_t last_ = 0;         // the highest thread id visited in the one in progress
  std::map<std::uint64_t, std::uint32_t> found_;
};

/// The network namespaces that threads of the cgroup and of the cgroups below it are in: by inode
/// number, with one thread of each. Looks at no more than `limit` threads and subtracts the number
/// that it looked at from `limit`.
[[nodiscard]] std::map<std::uint64_t, std::uint32_t> networks_of(const kernel::CgroupTree& tree,
                                                                 const std::string& cgroup,
                                                                 std::size_t& limit);
/// Opens the network namespace of process `pid`; null if its inode number is not `inode` (the
/// process has moved or exited).
[[nodiscard]] std::shared_ptr<const kernel::Netns> hold_network(std::uint32_t pid,
                                                                std::uint64_t inode);
/// Opens the network namespace with this inode number through a process of the cgroup or of a
/// cgroup below it; null if none of them is in it.
[[nodiscard]] std::shared_ptr<const kernel::Netns> find_network(const kernel::CgroupTree& tree,
                                                                const std::string& cgroup,
                                                                std::uint64_t inode);
/// The network namespace that the first processes of a starting container have entered: neither the
/// daemon's, nor that of their parent process (all of Docker may be in another network namespace
/// than the daemon). Null while there is none.
[[nodiscard]] std::shared_ptr<const kernel::Netns> find_entered_network(
    const kernel::CgroupTree& tree, const std::string& cgroup);

}  // namespace trireme::workload
