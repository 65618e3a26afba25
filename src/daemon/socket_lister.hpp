// SPDX-License-Identifier: Apache-2.0
// A process that lists TCP connections with their bytes for the daemon. To read the bytes the
// kernel takes the lock of each socket, and waits for it uninterruptibly. A process that sends from
// memory that never comes (a file on a FUSE file system that does not answer, userfaultfd) holds
// that lock without a limit. A thread that waits for the lock cannot be killed, so that its process
// keeps its descriptors: the daemon could neither end nor be started again.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "trireme/base/fd.hpp"
#include "trireme/base/result.hpp"
#include "trireme/kernel/netns.hpp"
#include "trireme/kernel/sockets.hpp"

namespace trireme::daemon {

/// The only argument of the process.
inline constexpr const char* kListSocketsOption = "--list-sockets";
/// What it does: answers requests from this socket until the other end is closed. Returns its exit
/// status.
[[nodiscard]] int list_sockets_for(int socket);

class SocketLister {
 public:
  struct Settings {
    std::string program = "/proc/self/exe";  // is run with kListSocketsOption
    std::chrono::milliseconds patience{2'500};
  };
  SocketLister() : SocketLister(Settings()) {}
  explicit SocketLister(Settings settings) : settings_(std::move(settings)) {}
  SocketLister(const SocketLister&) = delete;
  SocketLister& operator=(const SocketLister&) = delete;
  /// Never waits for the process.
  ~SocketLister() { abandon(); }

  /// SocketTable::connections_with_bytes() of a network namespace; null: the daemon's own. Starts
  /// the process if necessary. Errors: it does not answer in time, or `stop` is requested. It is
  /// killed then, and none is started before it has ended, which may be never.
  [[nodiscard]] Result<std::vector<kernel::InetSocket>> list(
      const std::shared_ptr<const kernel::Netns>& network, const std::stop_token& stop);
  /// Processor time that the process has used for the answers so far.
  [[nodiscard]] std::chrono::nanoseconds used() const { return used_before_ + used_; }
  /// False after an error that concerns the process, not the network namespace alone.
  [[nodiscard]] bool answers() const { return socket_.valid(); }

  /// Whether the kernel can be asked for the bytes at all. Before Linux 6.9 it waits for the lock
  /// of a socket while it holds one that every user of sock_diag needs: the verifier, and the
  /// daemon when it ends connections.
  [[nodiscard]] static bool is_safe(std::pair<int, int> kernel);

 private:
  using Clock = std::chrono::steady_clock;
  [[nodiscard]] Status start();
  [[nodiscard]] Status receive(void* buffer, std::size_t size, Clock::time_point end,
                               const std::stop_token& stop);
  void abandon();

  Settings settings_;
  std::shared_ptr<const kernel::Netns> own_;
  Fd socket_;                               // to the process; invalid: none answers
  pid_t pid_ = -1;                          // of the process, until it was waited for
  std::chrono::nanoseconds used_{};         // by this process
  std::chrono::nanoseconds used_before_{};  // by those before it
};

}  // namespace trireme::daemon
