// SPDX-License-Identifier: Apache-2.0
// Shared by the tests of the gate: a cgroup tree with the gate at its top, and sockets that belong
// to its cgroups, in a network namespace that the test creates.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "trireme/gate/gate.hpp"
#include "trireme/kernel/cgroup.hpp"

namespace trireme::gate {

inline policy::LabelSet labels_of(const std::string& app) {
  policy::LabelSet set;
  EXPECT_TRUE(set.set("app", app));
  return set;
}

inline policy::Peer workloads(const std::string& selector) {
  const auto parsed = policy::Selector::parse(selector);
  EXPECT_TRUE(parsed) << selector;
  return *parsed;
}

inline policy::Peer host() {
  return policy::Entity{.kind = policy::Entity::Kind::host};
}

inline policy::Rule allow(const policy::Peer& from, const policy::Peer& to,
                          std::vector<policy::PortRange> ports = {}) {
  policy::Rule rule;
  rule.from = {from};
  rule.to = {to};
  rule.ports = std::move(ports);
  return rule;
}

class GateTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
    auto tree = kernel::CgroupTree::find();
    auto home = kernel::CgroupTree::of(self());
    if (!tree || !home) {
      GTEST_SKIP() << "no cgroup v2";
    }
    if (::unshare(CLONE_NEWNET) != 0) {
      GTEST_SKIP() << "cannot make a network namespace";
    }
    tree_ = std::make_unique<kernel::CgroupTree>(std::move(*tree));
    home_ = *home;
    static unsigned counter = 0;
    top_ = "/trireme-test-gate-" + std::to_string(::getpid()) + "-" + std::to_string(++counter);
    ASSERT_TRUE(tree_->create(top_));
    plain_ = make("plain");
    bring_lo_up();
    open({});
  }

  void TearDown() override {
    gate_.reset();
    if (tree_ && !top_.empty()) {
      EXPECT_TRUE(Gate::detach(tree_->absolute(top_)));
      EXPECT_TRUE(tree_->place(home_, self()));
      remove(top_);
    }
  }

  /// Opens the gate with this policy, like a new daemon that replaces the previous one.
  void open(const policy::Policy& policy) {
    gate_.reset();
    auto gate = Gate::open(tree_->absolute(top_));
    ASSERT_TRUE(gate) << gate.error().text();
    gate_ = std::move(*gate);
    load(policy);
    must(gate_->attach());
  }

  /// Replaces the policy like a reload.
  void load(const policy::Policy& policy) {
    prepare(policy);
    must(gate_->finish());
  }
  void prepare(const policy::Policy& policy) {
    constexpr std::uint32_t kSecondHalf = 1U << 31U;
    first_id_ = first_id_ == kSecondHalf ? 1 : kSecondHalf;
    auto next =
        std::make_unique<policy::Compiler>(std::make_shared<policy::Policy>(policy), first_id_);
    for (const auto& [number, labels] : labels_) {
      next->add(number, labels);
    }
    must(gate_->prepare(next->tables(), next->elements(), policy.mode == policy::Mode::audit));
    compiler_ = std::move(next);
  }

  [[nodiscard]] static std::uint32_t self() { return static_cast<std::uint32_t>(::getpid()); }
  static void must(const Status& status) { ASSERT_TRUE(status) << status.error().text(); }

  std::string make(const std::string& name) {
    const std::string path = top_ + "/" + name;
    EXPECT_TRUE(tree_->create(path));
    return path;
  }
  /// Creates a cgroup that is a workload with the label app=`app`.
  std::string workload(const std::string& name, const std::string& app) {
    const std::string path = make(name);
    const policy::Number number = next_number_++;
    labels_[number] = labels_of(app);
    must(gate_->change(compiler_->add(number, labels_of(app))));
    must(gate_->set(id(path), number));
    numbers_[path] = number;
    return path;
  }
  [[nodiscard]] std::uint64_t id(const std::string& path) const {
    return tree_->id(path).value_or(0);
  }
  void remove(const std::string& path) {
    for (const std::string& name : tree_->children(path)) {
      remove(path + "/" + name);
    }
    EXPECT_TRUE(tree_->remove(path));
  }

  // --- sockets: each belongs to the cgroup in which it was created ---

  Fd socket_in(const std::string& path, int family, int type) {
    EXPECT_TRUE(tree_->place(path, self()));
    Fd fd(::socket(family, type | SOCK_CLOEXEC, 0));
    EXPECT_TRUE(tree_->place(home_, self()));
    // If packets are dropped silently, the result is EINPROGRESS.
    const timeval patience{.tv_sec = 0, .tv_usec = 150'000};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    return fd;
  }
  static sockaddr_storage loopback(int family, std::uint16_t port) {
    sockaddr_storage address{};
    address.ss_family = static_cast<sa_family_t>(family);
    if (family == AF_INET) {
      auto& in = reinterpret_cast<sockaddr_in&>(address);
      in.sin_port = htons(port);
      in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else {
      auto& in = reinterpret_cast<sockaddr_in6&>(address);
      in.sin6_port = htons(port);
      in.sin6_addr = in6addr_loopback;
    }
    return address;
  }
  static int family_of(const Fd& fd) {
    int family = 0;
    socklen_t size = sizeof family;
    ::getsockopt(fd.get(), SOL_SOCKET, SO_DOMAIN, &family, &size);
    return family;
  }
  static std::uint16_t port_of(const Fd& fd) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    EXPECT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    return ntohs(reinterpret_cast<sockaddr_in&>(address).sin_port);
  }
  static int bind(const Fd& fd, std::uint16_t port) {
    const sockaddr_storage address = loopback(family_of(fd), port);
    return ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  }
  static int connect(const Fd& fd, std::uint16_t port) {
    const sockaddr_storage address = loopback(family_of(fd), port);
    return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0
               ? 0
               : errno;
  }
  Fd listen_in(const std::string& path, int family = AF_INET, std::uint16_t port = 0) {
    Fd fd = socket_in(path, family, SOCK_STREAM);
    const int yes = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes);
    EXPECT_EQ(bind(fd, port), 0) << std::strerror(errno);
    EXPECT_EQ(::listen(fd.get(), 64), 0);
    return fd;
  }
  static bool readable(const Fd& fd, int timeout_ms) {
    pollfd entry{.fd = fd.get(), .events = POLLIN, .revents = 0};
    return ::poll(&entry, 1, timeout_ms) > 0;
  }

  struct Connection {
    Fd client;
    Fd server;
    int error = 0;
  };
  Connection connect_from(const std::string& path, const Fd& listener) {
    Connection made{socket_in(path, family_of(listener), SOCK_STREAM), Fd{}};
    made.error = connect(made.client, port_of(listener));
    if (made.error == 0 && readable(listener, 1000)) {
      made.server = Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    }
    return made;
  }
  /// True if a byte from `from` arrives. Over lo it has arrived when send(2) returns.
  static bool passes(const Fd& from, const Fd& to) {
    char byte = 'x';
    return ::send(from.get(), &byte, 1, MSG_NOSIGNAL) == 1 && readable(to, 100) &&
           ::recv(to.get(), &byte, 1, MSG_DONTWAIT) == 1;
  }
  /// True if a connection can be established and both ends can send.
  bool talks(const std::string& from, const std::string& to, int family = AF_INET) {
    const Fd listener = listen_in(to, family);
    const Connection made = connect_from(from, listener);
    return made.server.valid() && passes(made.client, made.server) &&
           passes(made.server, made.client);
  }
  /// The same with datagrams, from connected or unconnected sockets.
  bool exchanges(const std::string& from, const std::string& to, int family = AF_INET,
                 bool connected = true) {
    const Fd server = socket_in(to, family, SOCK_DGRAM);
    const Fd client = socket_in(from, family, SOCK_DGRAM);
    EXPECT_EQ(bind(server, 0), 0);
    EXPECT_EQ(bind(client, 0), 0);
    const sockaddr_storage address = loopback(family, port_of(server));
    if (connected) {
      EXPECT_EQ(connect(client, port_of(server)), 0);
    }
    char byte = 'x';
    if (::sendto(client.get(), &byte, 1, 0,
                 connected ? nullptr : reinterpret_cast<const sockaddr*>(&address),
                 connected ? 0 : sizeof address) != 1 ||
        !readable(server, 100)) {
      return false;
    }
    sockaddr_storage asker{};
    socklen_t size = sizeof asker;
    return ::recvfrom(server.get(), &byte, 1, 0, reinterpret_cast<sockaddr*>(&asker), &size) == 1 &&
           ::sendto(server.get(), &byte, 1, 0, reinterpret_cast<sockaddr*>(&asker), size) == 1 &&
           readable(client, 100);
  }

  std::unique_ptr<kernel::CgroupTree> tree_;
  std::string home_;  // a cgroup outside the gate's tree
  std::string top_;
  std::string plain_;  // a cgroup that is not a workload
  std::unique_ptr<Gate> gate_;
  std::unique_ptr<policy::Compiler> compiler_;
  std::map<policy::Number, policy::LabelSet> labels_;
  std::map<std::string, policy::Number> numbers_;
  policy::Number next_number_ = abi::kFirstNumber;
  std::uint32_t first_id_ = 1U << 31U;

  static void bring_lo_up() {
    const Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request{};
    std::strncpy(request.ifr_name, "lo", IFNAMSIZ - 1);
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    ASSERT_EQ(::ioctl(fd.get(), SIOCSIFFLAGS, &request), 0);
  }
};

}  // namespace trireme::gate
