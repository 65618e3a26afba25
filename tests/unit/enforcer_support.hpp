// SPDX-License-Identifier: Apache-2.0
// Shared by the enforcer's tests: a network namespace, a cgroup tree with the gate at its top, and
// sockets that belong to cgroups of that tree.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "trireme/abi/flow_label.hpp"
#include "trireme/enforcer/enforcer.hpp"
#include "trireme/enforcer/local_policy.hpp"

namespace trireme::enforcer {

inline policy::LabelSet labeled(const char* key, const char* value) {
  policy::LabelSet set;
  EXPECT_TRUE(set.set(key, value));
  return set;
}

inline policy::Selector selector(const std::string& text) {
  const auto parsed = policy::Selector::parse(text);
  EXPECT_TRUE(parsed) << text;
  return *parsed;
}

inline policy::Rule allow(const policy::Peer& from, const policy::Peer& to) {
  policy::Rule rule;
  rule.from = {from};
  rule.to = {to};
  return rule;
}

inline std::shared_ptr<const policy::Policy> policy_of(std::vector<policy::Rule> rules) {
  policy::Policy policy;
  policy.rules = std::move(rules);
  return std::make_shared<const policy::Policy>(std::move(policy));
}

/// Drops the privileges over the network for the lifetime of the object.
class Powerless {
 public:
  Powerless() { EXPECT_EQ(::seteuid(65534), 0); }
  ~Powerless() { EXPECT_EQ(::seteuid(0), 0); }
  Powerless(const Powerless&) = delete;
  Powerless& operator=(const Powerless&) = delete;
};

/// Skips the test without root, without cgroup v2, or if no network namespace can be created.
class EnforcerTest : public ::testing::Test {
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
      GTEST_SKIP() << "cannot create a network namespace";
    }
    tree_ = std::make_unique<kernel::CgroupTree>(std::move(*tree));
    home_ = *home;
    static unsigned counter = 0;
    base_ = "/trireme-test-enforcer-" + std::to_string(::getpid()) + "-" +
            std::to_string(++counter) + ".slice";
    ASSERT_TRUE(tree_->create(base_));
    plain_ = make("plain");
    bring_lo_up();
    open(std::make_shared<policy::Policy>());
  }

  void TearDown() override {
    enforcer_.reset();
    local_.reset();
    if (tree_) {
      EXPECT_TRUE(gate::Gate::detach(tree_->absolute(base_)));
      EXPECT_TRUE(tree_->place(home_, self()));
      remove(base_);
    }
  }

  void open(std::shared_ptr<const policy::Policy> policy, const datapath::Layout& layout = {}) {
    enforcer_.reset();  // simulates a new daemon, with numbers of its own
    local_.reset();
    auto gate = gate::Gate::open(tree_->absolute(base_));
    ASSERT_TRUE(gate) << gate.error().text();
    local_ = std::make_unique<LocalPolicy>(*tree_, std::move(*gate), policy);
    numbers_ = std::make_unique<policy::Numbers>();
    identities_ = std::make_unique<verifier::Identities>("", *numbers_);
    common_ = std::make_unique<Common>(
        Common{.tree = *tree_, .numbers = *numbers_, .identities = *identities_, .local = *local_});
    auto enforcer = Enforcer::open(*common_, layout, std::move(policy));
    ASSERT_TRUE(enforcer) << enforcer.error().text();
    enforcer_ = std::move(*enforcer);
  }

  [[nodiscard]] static std::uint32_t self() { return static_cast<std::uint32_t>(::getpid()); }

  std::string make(const std::string& name) {
    const std::string path = base_ + "/" + name;
    EXPECT_TRUE(tree_->create(path));
    return path;
  }
  workload::CgroupRef ref(const std::string& path) {
    return {
        .id = tree_->id(path).value_or(0), .level = kernel::CgroupTree::level(path), .path = path};
  }

  // --- rules and gate, in the same order as in Points ---

  Status start() {
    const Status started = enforcer_->start();
    return started ? local_->start() : started;
  }
  Result<policy::Number> try_enrol(const workload::CgroupRef& cgroup,
                                   const policy::LabelSet& labels, policy::Number number = 0) {
    auto enrolled = enforcer_->enrol(cgroup, labels, number);
    if (enrolled) {
      EXPECT_TRUE(local_->enrol(cgroup, *enrolled, labels));
    }
    return enrolled;
  }
  policy::Number enrol(const std::string& path, const policy::LabelSet& labels) {
    const auto number = try_enrol(ref(path), labels);
    EXPECT_TRUE(number) << number.error().text();
    return number.value_or(0);
  }
  Status quarantine(const workload::CgroupRef& cgroup) {
    const Status gated = local_->quarantine(cgroup);
    const Status dropped = enforcer_->quarantine(cgroup);
    return gated ? dropped : gated;
  }
  Status end(const workload::CgroupRef& cgroup, policy::Number number) {
    EXPECT_TRUE(local_->release(cgroup.id));
    return enforcer_->end(cgroup, number);
  }
  Status apply(std::shared_ptr<const policy::Policy> policy) {
    Status done = local_->prepare(policy);
    done = done ? enforcer_->apply(policy) : done;
    if (!done) {
      local_->cancel();
      return done;
    }
    return local_->finish();
  }
  void remove(const std::string& path) {
    for (const std::string& name : tree_->children(path)) {
      remove(path + "/" + name);
    }
    EXPECT_TRUE(tree_->remove(path));
  }

  // --- sockets ---

  /// A socket in this cgroup (sockets keep the cgroup in which they are created); empty: in a
  /// cgroup that is not a workload.
  Fd socket_in(const std::string& path, int type = SOCK_STREAM) {
    EXPECT_TRUE(tree_->place(path.empty() ? plain_ : path, self()));
    Fd fd(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
    EXPECT_TRUE(tree_->place(home_, self()));
    // If the request is dropped silently, connect() fails with EINPROGRESS after this time.
    const timeval patience{.tv_sec = 0, .tv_usec = 200'000};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    return fd;
  }
  static sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }
  static std::uint16_t port_of(const Fd& fd) {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    EXPECT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    return ntohs(address.sin_port);
  }
  Fd listen_in(const std::string& path) {
    Fd fd = socket_in(path);
    const sockaddr_in address = loopback(0);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(fd.get(), 8), 0);
    return fd;
  }
  /// 0, or the errno of the failed connection.
  static int connect(const Fd& fd, std::uint16_t port) {
    const sockaddr_in address = loopback(port);
    return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0
               ? 0
               : errno;
  }
  int connect_from(const std::string& path, const Fd& listener) {
    return connect(socket_in(path), port_of(listener));
  }

  struct Connection {
    Fd client;
    Fd server;
  };
  Connection connection(const std::string& from, const Fd& listener) {
    Connection made{socket_in(from), Fd{}};
    EXPECT_EQ(connect(made.client, port_of(listener)), 0);
    made.server = Fd(::accept(listener.get(), nullptr, nullptr));
    EXPECT_TRUE(made.server.valid());
    return made;
  }
  static bool readable(const Fd& fd, int timeout_ms) {
    pollfd entry{.fd = fd.get(), .events = POLLIN, .revents = 0};
    return ::poll(&entry, 1, timeout_ms) > 0;
  }
  /// True if a byte sent by `from` arrives at `to`; on lo it does when send(2) returns, or soon
  /// after.
  static bool passes(const Fd& from, const Fd& to) {
    char byte = 'x';
    return ::send(from.get(), &byte, 1, MSG_NOSIGNAL) == 1 && readable(to, 100) &&
           ::recv(to.get(), &byte, 1, MSG_DONTWAIT) == 1;
  }

  /// True if the connection was closed by somebody else: the next read fails.
  static bool is_ended(const Fd& fd) {
    char byte = 0;
    return readable(fd, 1000) && ::recv(fd.get(), &byte, 1, MSG_DONTWAIT) == -1 &&
           (errno == ECONNABORTED || errno == ECONNRESET);
  }

  // --- the state of the kernel ---

  using Keys = std::set<std::vector<std::uint8_t>>;
  /// A dump repeats or omits elements while the kernel resizes the set: read until two dumps in a
  /// row agree.
  static Keys keys(const kernel::NftSet& set) {
    auto socket = kernel::NftSocket::open();
    EXPECT_TRUE(socket);
    std::optional<Keys> before;
    for (int attempt = 0; attempt < 1000; attempt++) {
      const auto list = socket->keys(abi::kTable, set.name);
      EXPECT_TRUE(list) << set.name << ": " << (list ? "" : list.error().text());
      if (!list) {
        break;
      }
      Keys now(list->begin(), list->end());
      if (now.size() == list->size() && before == now) {
        return now;
      }
      before = std::move(now);
    }
    ADD_FAILURE() << set.name << ": no two dumps in a row agree";
    return {};
  }
  /// Keys of all sets, except the one that refused packets fill.
  static std::map<std::string, Keys> all_keys() {
    std::map<std::string, Keys> all;
    for (const kernel::NftSet* set : datapath::sets().all()) {
      if (set->dynamic_timeout_ms == 0) {
        all[set->name] = keys(*set);
      }
    }
    return all;
  }
  static bool has(const kernel::NftSet& set, const kernel::NftBytes& key) {
    return keys(set).contains({key.view().begin(), key.view().end()});
  }
  /// The output of a command. The test fails if the command does.
  static std::string output(const std::string& command) {
    std::string text;
    std::FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
    if (pipe == nullptr) {
      ADD_FAILURE() << command << ": " << std::strerror(errno);
      return text;
    }
    std::array<char, 4096> buffer{};
    for (std::size_t size = 0; (size = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
      text.append(buffer.data(), size);
    }
    EXPECT_EQ(::pclose(pipe), 0) << command << ": " << text;
    return text;
  }
  /// Number of flows with at least one of these bits.
  static std::size_t flows_with(std::uint32_t bits) {
    auto conntrack = kernel::Conntrack::open();
    std::size_t count = 0;
    EXPECT_TRUE(conntrack && conntrack->each([&](const kernel::TrackedFlow& flow) {
      count += (flow.label[0] & bits) != 0 ? 1U : 0U;
    }));
    return count;
  }
  static void delete_table() {
    auto socket = kernel::NftSocket::open();
    kernel::NftBatch batch(abi::kTable);
    batch.delete_table();
    ASSERT_TRUE(socket && socket->commit(std::move(batch)));
  }

  std::unique_ptr<kernel::CgroupTree> tree_;
  std::unique_ptr<policy::Numbers> numbers_;
  std::unique_ptr<verifier::Identities> identities_;
  std::unique_ptr<Common> common_;
  std::string home_;  // cgroup of the test process, outside the tree
  std::string base_;
  std::string plain_;  // a cgroup that is not a workload
  std::unique_ptr<LocalPolicy> local_;
  std::unique_ptr<Enforcer> enforcer_;

 private:
  static void bring_lo_up() {
    const Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request{};
    std::strncpy(request.ifr_name, "lo", IFNAMSIZ - 1);
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    ASSERT_EQ(::ioctl(fd.get(), SIOCSIFFLAGS, &request), 0);
  }
};

}  // namespace trireme::enforcer
