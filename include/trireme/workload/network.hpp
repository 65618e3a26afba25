// SPDX-License-Identifier: Apache-2.0
// The network namespaces of processes, as a source and the registry look for them.
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

/// Inode number of our own network namespace; 0 where /proc does not tell.
[[nodiscard]] std::uint64_t own_network();
/// That of a process; 0 where it is gone.
[[nodiscard]] std::uint64_t network_of_process(std::uint32_t pid);
/// Null is our own.
[[nodiscard]] bool is_same_network(const std::shared_ptr<const kernel::Netns>& one,
                                   const std::shared_ptr<const kernel::Netns>& other);

/// One round through the threads of a cgroup and of those below it, for the network namespaces
/// that they are in. It can be made in parts: where there are many, others are looked at between.
class NetworkSurvey {
 public:
  explicit NetworkSurvey(const std::string& cgroup) : cgroup_(cgroup), open_{cgroup} {}
  /// Goes on where it ended: looks at `limit` threads, and cgroups without any, at most, and
  /// takes them off it.
  void go_on(const kernel::CgroupTree& tree, std::size_t& limit);
  /// Every thread that was there all the time has been looked at.
  [[nodiscard]] bool is_complete() const { return open_.empty(); }
  [[nodiscard]] const std::string& cgroup() const { return cgroup_; }
  /// By inode number, with the last thread that was seen in each.
  [[nodiscard]] const std::map<std::uint64_t, std::uint32_t>& found() const { return found_; }

 private:
  std::string cgroup_;
  std::vector<std::string> open_;  // still to be looked at; the last one is under way
  std::uint32_t last_ = 0;         // its thread that was looked at last
  std::map<std::uint64_t, std::uint32_t> found_;
};

/// The network namespaces that threads of the cgroup and of those below it are in: by inode
/// number, with one thread of each. Looks at `limit` threads at most, and takes them off it.
[[nodiscard]] std::map<std::uint64_t, std::uint32_t> networks_of(const kernel::CgroupTree& tree,
                                                                 const std::string& cgroup,
                                                                 std::size_t& limit);
/// The network namespace `inode` by a process in it; null where it is in it no more.
[[nodiscard]] std::shared_ptr<const kernel::Netns> hold_network(std::uint32_t pid,
                                                                std::uint64_t inode);
/// The network namespace with this inode number, by a process of the cgroup or of one below it;
/// null where none of them is in it.
[[nodiscard]] std::shared_ptr<const kernel::Netns> find_network(const kernel::CgroupTree& tree,
                                                                const std::string& cgroup,
                                                                std::uint64_t inode);
/// The network namespace that the first processes of a container that is starting have come to:
/// another than ours, and than that of the process that made them, which may be in another than
/// ours with all of Docker. Null while there is none.
[[nodiscard]] std::shared_ptr<const kernel::Netns> find_entered_network(
    const kernel::CgroupTree& tree, const std::string& cgroup);

}  // namespace trireme::workload
