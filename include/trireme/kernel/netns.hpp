// SPDX-License-Identifier: Apache-2.0
// Network namespaces: kept alive by a descriptor, and entered by one thread for one call.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"

namespace trireme::kernel {

/// A network namespace. It exists at least as long as this object.
class Netns {
 public:
  /// The namespace of the calling thread.
  [[nodiscard]] static Result<std::shared_ptr<const Netns>> own();
  /// The namespace of a process, through /proc/PID/ns/net. Errors: the process is gone.
  [[nodiscard]] static Result<std::shared_ptr<const Netns>> of_process(std::uint32_t pid);
  /// The namespace that "ip netns" or a container engine has mounted on a file. Errors: no such
  /// file; it is not a network namespace.
  [[nodiscard]] static Result<std::shared_ptr<const Netns>> at(const std::string& path);

  /// The inode number on nsfs: unique among existing namespaces; reused after this one is gone.
  [[nodiscard]] std::uint64_t inode() const { return inode_; }
  /// For setns(2) in another process. Stays this object's.
  [[nodiscard]] int fd() const { return fd_.get(); }
  /// Calls `function` with this thread in the namespace (setns(2), CAP_SYS_ADMIN) and returns to
  /// the thread's own. Sockets that `function` opens stay in the namespace. Errors: cannot enter.
  /// Aborts the process if it cannot return: code must not continue in the wrong namespace.
  [[nodiscard]] Status within(const std::function<void()>& function) const;

 private:
  Netns(Fd fd, std::uint64_t device, std::uint64_t inode)
      : fd_(std::move(fd)), device_(device), inode_(inode) {}
  Fd fd_;
  std::uint64_t device_ = 0;
  std::uint64_t inode_ = 0;
};

/// Identifies the calling thread's network namespace: SO_NETNS_COOKIE (Linux 5.14), which is never
/// reused; on earlier kernels the inode number, which is.
[[nodiscard]] std::uint64_t netns_cookie();

/// Whether the calling thread's network namespace has a device other than lo that is up. A tun
/// device counts, because it leads to the process that holds its descriptor (a VPN). It does not
/// count if another user namespace owns the network namespace: the packets then leave as those of a
/// process of the same user (slirp4netns, pasta). Errors: the devices cannot be listed.
[[nodiscard]] Result<bool> leads_out();

/// The network namespaces of all processes, except that of the calling thread.
[[nodiscard]] std::vector<std::shared_ptr<const Netns>> other_networks();

}  // namespace trireme::kernel
