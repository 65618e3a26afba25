// The network namespaces of processes, as a source and the registry look for them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

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

/// The network namespaces that processes of the cgroup and of those below it are in: by inode
/// number, with one process of each. Looks at `limit` processes at most, and takes them off it.
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
