// SPDX-License-Identifier: Apache-2.0
#include "socket_lister.hpp"

#include <poll.h>
#include <sched.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <type_traits>
#include <utility>

namespace trireme::daemon {
namespace {

/// How often a wait looks whether it should stop.
constexpr std::chrono::milliseconds kLook(100);
/// More than a host has. A larger number is no answer.
constexpr std::uint64_t kMostAnswered = 16'000'000;

/// Precedes the sockets of an answer, which both ends of the same program have in the same form.
struct AnswerHeader {
  std::int32_t error = 0;  // errno; then there are no sockets
  std::uint64_t count = 0;
  std::int64_t used = 0;  // nanoseconds of processor time since the process started
};
static_assert(std::is_trivially_copyable_v<kernel::InetSocket>);

/// A message of one byte that carries a descriptor.
struct Carrier {
  char byte = 'n';
  iovec part{.iov_base = &byte, .iov_len = sizeof byte};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> room{};
  msghdr message{};
  Carrier() {
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = room.data();
    message.msg_controllen = room.size();
  }
};

bool send_descriptor(int socket, int descriptor) {
  Carrier carrier;
  cmsghdr* header = CMSG_FIRSTHDR(&carrier.message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof descriptor);
  std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  return ::sendmsg(socket, &carrier.message, MSG_NOSIGNAL) == 1;
}

/// Invalid at the end of the requests.
Fd receive_descriptor(int socket) {
  Carrier carrier;
  ssize_t count = 0;
  do {
    count = ::recvmsg(socket, &carrier.message, MSG_CMSG_CLOEXEC);
  } while (count < 0 && errno == EINTR);
  const cmsghdr* header = count == 1 ? CMSG_FIRSTHDR(&carrier.message) : nullptr;
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) {
    return {};
  }
  int descriptor = -1;
  std::memcpy(&descriptor, CMSG_DATA(header), sizeof descriptor);
  return Fd(descriptor);
}

bool send_all(int socket, const void* content, std::size_t size) {
  const auto* bytes = static_cast<const char*>(content);
  while (size > 0) {
    const ssize_t count = ::send(socket, bytes, size, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      return false;
    }
    bytes += count;
    size -= static_cast<std::size_t>(count);
  }
  return true;
}

Result<std::vector<kernel::InetSocket>> sockets_of(const Fd& network) {
  if (::setns(network.get(), CLONE_NEWNET) != 0) {
    return fail_errno("cannot enter a network namespace");
  }
  auto table = kernel::SocketTable::open();
  return table ? table->connections_with_bytes() : tl::unexpected(table.error());
}

std::int64_t process_time() {
  timespec time{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace

int list_sockets_for(int socket) {
  while (true) {
    const Fd network = receive_descriptor(socket);
    if (!network.valid()) {
      return 0;
    }
    const auto found = sockets_of(network);
    AnswerHeader header;
    header.error = found ? 0 : std::max(found.error().code, 1);
    header.count = found ? found->size() : 0;
    header.used = process_time();
    if (!send_all(socket, &header, sizeof header) ||
        (found && !send_all(socket, found->data(), found->size() * sizeof(kernel::InetSocket)))) {
      return 0;
    }
  }
}

bool SocketLister::is_safe(std::pair<int, int> kernel) {
  return kernel >= std::pair(6, 9);
}

Result<std::vector<kernel::InetSocket>> SocketLister::list(
    const std::shared_ptr<const kernel::Netns>& network, const std::stop_token& stop) {
  if (own_ == nullptr) {
    auto own = kernel::Netns::own();
    if (!own) {
      return tl::unexpected(own.error());
    }
    own_ = std::move(*own);
  }
  if (Status started = start(); !started) {
    return tl::unexpected(started.error());
  }
  const auto end = Clock::now() + settings_.patience;
  AnswerHeader header;
  std::vector<kernel::InetSocket> sockets;
  Status done = send_descriptor(socket_.get(), (network == nullptr ? own_ : network)->fd())
                    ? receive(&header, sizeof header, end, stop)
                    : Status(fail_errno("cannot ask the process that lists sockets"));
  if (done && header.count > kMostAnswered) {
    done = fail("the process that lists sockets gave no valid answer");
  }
  if (done) {
    sockets.resize(header.count);
    done = receive(sockets.data(), sockets.size() * sizeof(kernel::InetSocket), end, stop);
  }
  if (!done) {
    abandon();
    return tl::unexpected(done.error());
  }
  used_ = std::chrono::nanoseconds(header.used);
  if (header.error != 0) {
    return fail_errno("cannot list sockets", header.error);
  }
  return sockets;
}

Status SocketLister::start() {
  if (socket_.valid()) {
    return {};
  }
  if (pid_ > 0 && ::waitpid(pid_, nullptr, WNOHANG) == 0) {
    return fail("the process that lists sockets hangs: a process keeps the lock of its TCP socket");
  }
  pid_ = -1;
  used_before_ += std::exchange(used_, {});
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return fail_errno("cannot create a socket pair");
  }
  Fd here(ends[0]);
  const Fd there(ends[1]);
  posix_spawn_file_actions_t actions{};
  posix_spawnattr_t attributes{};
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, there.get(), STDIN_FILENO);
  ::posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  sigset_t none{};
  ::sigemptyset(&none);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  std::string name = "triremed";
  std::string option = kListSocketsOption;
  std::array<char*, 3> arguments = {name.data(), option.data(), nullptr};
  pid_t pid = -1;
  const int error = ::posix_spawn(&pid, settings_.program.c_str(), &actions, &attributes,
                                  arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    return fail_errno("cannot start the process that lists sockets", error);
  }
  pid_ = pid;
  socket_ = std::move(here);
  return {};
}

Status SocketLister::receive(void* buffer, std::size_t size, Clock::time_point end,
                             const std::stop_token& stop) {
  auto* bytes = static_cast<char*>(buffer);
  while (size > 0) {
    if (stop.stop_requested() || Clock::now() >= end) {
      return fail("the process that lists sockets did not answer");
    }
    pollfd wanted{.fd = socket_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&wanted, 1, static_cast<int>(kLook.count())) <= 0) {
      continue;
    }
    const ssize_t count = ::recv(socket_.get(), bytes, size, MSG_DONTWAIT);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) {
      continue;
    }
    if (count <= 0) {
      return fail("the process that lists sockets has ended");
    }
    bytes += count;
    size -= static_cast<std::size_t>(count);
  }
  return {};
}

/// Ends the process, which may be later, or never.
void SocketLister::abandon() {
  socket_.reset();
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {
      pid_ = -1;
    }
  }
}

}  // namespace trireme::daemon
