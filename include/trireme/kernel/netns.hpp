// SPDX-License-Identifier: Apache-2.0
// Network namespaces: held by a descriptor, entered by one thread for the time of a call.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"

namespace trireme::kernel {

/// Holds a network namespace; while it is held, the namespace lives.
class Netns {
 public:
  /// That of the calling thread.
  [[nodiscard]] static Result<std::shared_ptr<const Netns>> own();
  /// That of a process, through /proc/PID/ns/net. Errors: the process is gone.
  [[nodiscard]] static Result<std::shared_ptr<const Netns>> of_process(std::uint32_t pid);
  /// That of a file: one that "ip netns" or a container engine has mounted. Errors: there is none,
  /// or it is no network namespace.
  [[nodiscard]] static Result<std::shared_ptr<const Netns>> at(const std::string& path);

  /// Its inode number on nsfs: its name among live namespaces, used again after it is gone.
  [[nodiscard]] std::uint64_t inode() const { return inode_; }
  /// Calls `function` with this thread inside (setns(2), CAP_SYS_ADMIN) and returns when it is back
  /// outside; sockets that it opens stay here. Errors: cannot enter. Ends the process where it
  /// cannot come back: nothing may go on in the wrong namespace.
  [[nodiscard]] Status within(const std::function<void()>& function) const;

 private:
  Netns(Fd fd, std::uint64_t device, std::uint64_t inode)
      : fd_(std::move(fd)), device_(device), inode_(inode) {}
  Fd fd_;
  std::uint64_t device_ = 0;
  std::uint64_t inode_ = 0;
};

/// What names the calling thread's network namespace for good: SO_NETNS_COOKIE (Linux 5.14), which
/// no later one gets again; before, the inode number.
[[nodiscard]] std::uint64_t netns_cookie();

/// Whether the calling thread's network namespace has a device that is up, other than lo. A tun(4)
/// device counts, because it leads to the process that holds its descriptor (a VPN), except where
/// another user namespace owns the network namespace: there the packets leave as those of a process
/// of the same user (slirp4netns, pasta). Errors: the kernel does not list the devices.
[[nodiscard]] Result<bool> leads_out();

/// Every network namespace that some process is in, but the calling thread's.
[[nodiscard]] std::vector<std::shared_ptr<const Netns>> other_networks();

}  // namespace trireme::kernel
