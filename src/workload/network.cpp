// SPDX-License-Identifier: Apache-2.0
#include "trireme/workload/network.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <vector>

#include "trireme/base/file.hpp"

namespace trireme::workload {
namespace {

std::uint64_t inode_of(const std::string& process) {
  struct stat status {};
  return ::stat(("/proc/" + process + "/ns/net").c_str(), &status) == 0
             ? static_cast<std::uint64_t>(status.st_ino)
             : 0;
}

/// 0 if the process has exited, or if its parent is in a PID namespace that is not visible here.
std::uint32_t parent_of(std::uint32_t pid) {
  constexpr std::string_view kField = "\nPPid:\t";
  const auto status = read_file("/proc/" + std::to_string(pid) + "/status");
  const std::size_t at = status ? status->find(kField) : std::string::npos;
  std::uint32_t parent = 0;
  if (at != std::string::npos) {
    std::from_chars(status->data() + at + kField.size(), status->data() + status->size(), parent);
  }
  return parent;
}

}  // namespace

/// The inode number is compared after opening, because the process may have moved, or its pid may
/// have been reused.
std::shared_ptr<const kernel::Netns> hold_network(std::uint32_t pid, std::uint64_t inode) {
  auto held = kernel::Netns::of_process(pid);
  return held && (*held)->inode() == inode ? *held : nullptr;
}

std::uint64_t own_network() {
  return inode_of("thread-self");
}

std::uint64_t network_of_process(std::uint32_t pid) {
  return inode_of(std::to_string(pid));
}

bool is_same_network(const std::shared_ptr<const kernel::Netns>& one,
                     const std::shared_ptr<const kernel::Netns>& other) {
  return one && other ? one->inode() == other->inode() : !one && !other;
}

/// Looks at threads, because a single thread can enter another network namespace. Visits them in
/// the order of their ids (the kernel lists them unsorted), so that `last_` shows which ones were
/// visited.
void NetworkSurvey::go_on(const kernel::CgroupTree& tree, std::size_t& limit) {
  while (!open_.empty() && limit > 0) {
    const std::string path = open_.back();
    std::vector<std::uint32_t> threads = tree.threads(path);
    std::ranges::sort(threads);
    if (threads.empty()) {
      limit--;
    }
    for (auto thread = std::ranges::upper_bound(threads, last_); thread != threads.end();
         ++thread) {
      if (limit == 0) {
        return;
      }
      limit--;
      last_ = *thread;
      if (const std::uint64_t inode = network_of_process(*thread); inode != 0) {
        found_[inode] = *thread;
      }
    }
    open_.pop_back();
    last_ = 0;
    for (const std::string& name : tree.children(path)) {
      open_.push_back(path + "/" + name);
    }
  }
}

std::map<std::uint64_t, std::uint32_t> networks_of(const kernel::CgroupTree& tree,
                                                   const std::string& cgroup, std::size_t& limit) {
  NetworkSurvey survey(cgroup);
  survey.go_on(tree, limit);
  return survey.found();
}

std::shared_ptr<const kernel::Netns> find_network(const kernel::CgroupTree& tree,
                                                  const std::string& cgroup, std::uint64_t inode) {
  if (inode == own_network()) {
    return nullptr;
  }
  std::vector<std::string> open = {cgroup};
  while (!open.empty()) {
    const std::string path = std::move(open.back());
    open.pop_back();
    for (const std::uint32_t thread : tree.threads(path)) {
      if (auto network =
              network_of_process(thread) == inode ? hold_network(thread, inode) : nullptr) {
        return network;
      }
    }
    for (const std::string& name : tree.children(path)) {
      open.push_back(path + "/" + name);
    }
  }
  return nullptr;
}

std::shared_ptr<const kernel::Netns> find_entered_network(const kernel::CgroupTree& tree,
                                                          const std::string& cgroup) {
  const std::uint64_t own = own_network();
  for (const std::uint32_t pid : tree.pids(cgroup)) {
    const std::uint64_t inode = network_of_process(pid);
    if (inode == 0 || inode == own) {
      continue;
    }
    const std::uint64_t makers = network_of_process(parent_of(pid));
    if (auto network = makers != 0 && makers != inode ? hold_network(pid, inode) : nullptr) {
      return network;
    }
  }
  return nullptr;
}

}  // namespace trireme::workload
