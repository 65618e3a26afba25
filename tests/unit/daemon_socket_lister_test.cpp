// SPDX-License-Identifier: Apache-2.0
// The process that lists sockets: its answers, and that nothing waits for it when the kernel keeps
// it from answering.
#include "../../src/daemon/socket_lister.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <sstream>
#include <thread>

#include "trireme/base/file.hpp"
#include "trireme/kernel/probe.hpp"

namespace trireme::daemon {
namespace {

using namespace std::chrono_literals;

/// The lister starts this program.
[[maybe_unused]] const bool is_lister = [] {
  const auto words = read_file("/proc/self/cmdline");
  if (words && words->find(std::string("triremed") + '\0' + kListSocketsOption) == 0) {
    ::_exit(list_sockets_for(STDIN_FILENO));
  }
  return false;
}();

TEST(SocketListing, IsSafeFromLinux69On) {
  EXPECT_FALSE(SocketLister::is_safe(kernel::release_version("6.1.0-18-amd64")));
  EXPECT_FALSE(SocketLister::is_safe(kernel::release_version("6.8.12")));
  EXPECT_TRUE(SocketLister::is_safe(kernel::release_version("6.9.0")));
  EXPECT_TRUE(SocketLister::is_safe(kernel::release_version("6.12.1")));
  EXPECT_TRUE(SocketLister::is_safe(kernel::release_version("7.0")));
  EXPECT_FALSE(SocketLister::is_safe(kernel::release_version("unknown")));
}

class SocketListerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* raw = reinterpret_cast<sockaddr*>(&address);
    listener_ = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    client_ = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::bind(listener_.get(), raw, size), 0);
    ASSERT_EQ(::listen(listener_.get(), 1), 0);
    ASSERT_EQ(::getsockname(listener_.get(), raw, &size), 0);
    ASSERT_EQ(::connect(client_.get(), raw, size), 0);
    server_ = Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    ASSERT_TRUE(server_.valid());
    port_ = ntohs(address.sin_port);
  }
  /// The client's end, if the answer has it.
  static std::optional<kernel::InetSocket> client_in(const std::vector<kernel::InetSocket>& sockets,
                                                     std::uint16_t port) {
    const auto found = std::ranges::find(sockets, port, &kernel::InetSocket::remote_port);
    return found == sockets.end() ? std::nullopt : std::optional(*found);
  }

  Fd listener_;
  Fd client_;
  Fd server_;
  std::uint16_t port_ = 0;
  std::stop_source stop_;
};

TEST_F(SocketListerTest, ListsConnectionsWithTheirBytes) {
  SocketLister lister;
  ASSERT_EQ(::send(client_.get(), "hello", 5, 0), 5);
  for (int i = 0; i < 3; ++i) {
    const auto listed = lister.list(nullptr, stop_.get_token());
    ASSERT_TRUE(listed) << listed.error().text();
    const auto client = client_in(*listed, port_);
    ASSERT_TRUE(client);
    EXPECT_TRUE(client->bytes);
  }
  EXPECT_GT(lister.used().count(), 0);
}

TEST_F(SocketListerTest, OneThatDoesNotStartIsAnError) {
  SocketLister lister({.program = "/bin/false"});
  EXPECT_FALSE(lister.list(nullptr, stop_.get_token()));
  SocketLister missing({.program = "/nonexistent/triremed"});
  EXPECT_FALSE(missing.list(nullptr, stop_.get_token()));
}

/// Tries until it is true, for at most ten seconds.
bool comes_true(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + 10s;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) {
      return false;
    }
    std::this_thread::sleep_for(1ms);
  }
  return true;
}

/// True while a child of the main thread waits in the kernel for a lock.
bool lister_waits() {
  const std::string self = std::to_string(::getpid());
  const auto children = read_file("/proc/self/task/" + self + "/children");
  std::istringstream pids(children.value_or(""));
  for (std::string pid; pids >> pid;) {
    const auto stat = read_file("/proc/" + pid + "/stat");
    if (stat && stat->find(") D ") != std::string::npos) {
      return true;
    }
  }
  return false;
}

/// A thread that sends from memory that does not come, and holds the lock of its socket meanwhile.
class HeldSocket {
 public:
  ~HeldSocket() { release(); }
  /// False if this kernel does not allow it.
  bool hold(int socket) {
    faults_ = Fd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
    uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
    if (!faults_.valid() || ::ioctl(faults_.get(), UFFDIO_API, &api) != 0) {
      return false;
    }
    memory_ = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uffdio_register range{
        .range = {.start = reinterpret_cast<std::uintptr_t>(memory_), .len = kSize},
        .mode = UFFDIO_REGISTER_MODE_MISSING,
        .ioctls = 0};
    if (memory_ == MAP_FAILED || ::ioctl(faults_.get(), UFFDIO_REGISTER, &range) != 0) {
      return false;
    }
    sender_ = std::thread([this, socket] { ::send(socket, memory_, kSize, MSG_NOSIGNAL); });
    pollfd fault{.fd = faults_.get(), .events = POLLIN, .revents = 0};
    return ::poll(&fault, 1, 10'000) == 1;
  }
  void release() {
    faults_.reset();  // the memory is ordinary again
    if (sender_.joinable()) {
      sender_.join();
    }
  }

 private:
  static constexpr std::size_t kSize = 4096;
  Fd faults_;
  void* memory_ = MAP_FAILED;
  std::thread sender_;
};

TEST_F(SocketListerTest, ALockThatIsHeldDelaysNobody) {
  const auto kernel = kernel::running_version();
  if (!kernel || !SocketLister::is_safe(*kernel)) {
    GTEST_SKIP() << "this kernel holds another lock meanwhile";
  }
  HeldSocket held;
  if (!held.hold(client_.get())) {
    GTEST_SKIP() << "no userfaultfd";
  }
  const auto began = std::chrono::steady_clock::now();
  {
    SocketLister lister({.patience = 300ms});
    EXPECT_FALSE(lister.list(nullptr, stop_.get_token()));
    const auto again = lister.list(nullptr, stop_.get_token());
    ASSERT_FALSE(again);
    EXPECT_THAT(again.error().message, ::testing::HasSubstr("hangs")) << "no second one is started";
    auto table = kernel::SocketTable::open();
    ASSERT_TRUE(table);
    const auto others = table->connections_and_listeners();
    ASSERT_TRUE(others) << "the daemon's own look-ups";
    EXPECT_TRUE(client_in(*others, port_));
    held.release();
    Result<std::vector<kernel::InetSocket>> listed = fail("not asked");
    EXPECT_TRUE(comes_true([&] {
      listed = lister.list(nullptr, stop_.get_token());
      return listed.has_value();
    })) << "another one is started when the first has ended";
  }
  EXPECT_LT(std::chrono::steady_clock::now() - began, 10s);
}

TEST_F(SocketListerTest, AWaitEndsWhenItShould) {
  const auto kernel = kernel::running_version();
  HeldSocket held;
  if (!kernel || !SocketLister::is_safe(*kernel) || !held.hold(client_.get())) {
    GTEST_SKIP() << "no userfaultfd, or an earlier kernel";
  }
  SocketLister lister({.patience = 60s});
  std::jthread stopper([this] {
    EXPECT_TRUE(comes_true(lister_waits));
    stop_.request_stop();
  });
  const auto began = std::chrono::steady_clock::now();
  EXPECT_FALSE(lister.list(nullptr, stop_.get_token()));
  EXPECT_LT(std::chrono::steady_clock::now() - began, 10s);
}

}  // namespace
}  // namespace trireme::daemon
