// The gate on a cgroup of our own whose sockets are in another network namespace. Needs root and
// cgroup v2.
#include "trireme/kernel/traffic_gate.hpp"

#include <sys/wait.h>

#include "kernel_support.hpp"
#include "trireme/kernel/cgroup.hpp"
#include "trireme/kernel/multicast_filter.hpp"

namespace trireme::kernel {
namespace {

constexpr std::uint16_t kInside = 5001;
constexpr std::uint16_t kOutside = 5002;
constexpr std::uint16_t kListener = 5003;

class TrafficGateTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
    tree_ = CgroupTree::find();
    ASSERT_TRUE(tree_) << tree_.error().text();
    path_ = "/trireme-test-gate-" + std::to_string(::getpid());
    child_ = path_ + "/child";
    ASSERT_TRUE(tree_->create(child_));
    home_ = *CgroupTree::of(static_cast<std::uint32_t>(::getpid()));
  }
  void TearDown() override {
    if (!path_.empty()) {
      enter(home_);
      EXPECT_TRUE(tree_->remove(child_));
      EXPECT_TRUE(tree_->remove(path_));
    }
  }
  void enter(const std::string& path) {
    ASSERT_TRUE(tree_->place(path, static_cast<std::uint32_t>(::getpid())));
  }
  [[nodiscard]] std::string directory(const std::string& path) const {
    return tree_->absolute(path);
  }

  /// Shuts it from a process that stays in the network namespace that we are in now, and ends.
  static void shut_elsewhere(const std::string& directory) {
    const pid_t process = ::fork();
    if (process == 0) {
      const auto gate = TrafficGate::load();
      ::_exit(gate && gate->shut(directory) ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(process, &status, 0), process);
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  /// Sockets made in `path`, in a network namespace of their own.
  void open_sockets(int family, const std::string& path) {
    ASSERT_EQ(::unshare(CLONE_NEWNET), 0) << std::strerror(errno);
    bring_lo_up();
    enter(path);
    inside_ = bound(family, SOCK_DGRAM, kInside);
    listener_ = bound(family, SOCK_STREAM, kListener);
    ASSERT_EQ(::listen(listener_.get(), 8), 0);
    enter(home_);
    outside_ = bound(family, SOCK_DGRAM, kOutside);
    family_ = family;
  }
  /// Which of in, out and connect pass; loopback delivers before the calls return.
  std::string passes() {
    std::string result;
    const auto one = [&](const Fd& from, const Fd& to, std::uint16_t port, const char* name) {
      const Endpoint end = loopback(family_, port);
      (void)::sendto(from.get(), "x", 1, 0, end.get(), end.size);
      result += received(to) == "x" ? name : "";
    };
    one(outside_, inside_, kInside, "in ");
    one(inside_, outside_, kOutside, "out ");
    const Fd client(::socket(family_, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const Endpoint end = loopback(family_, kListener);
    (void)::connect(client.get(), end.get(), end.size);
    const Fd accepted(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    return result + (accepted.valid() ? "connect" : "");
  }

  Result<CgroupTree> tree_ = fail("not looked for");
  std::string path_;
  std::string child_;
  std::string home_;
  int family_ = AF_INET;
  Fd inside_;
  Fd outside_;
  Fd listener_;
};

TEST_F(TrafficGateTest, NothingPassesWhileItIsShut) {
  for (const int family : {AF_INET, AF_INET6}) {
    shut_elsewhere(directory(path_));
    open_sockets(family, path_);
    EXPECT_EQ(passes(), "");
    ASSERT_TRUE(TrafficGate::open(directory(path_)));
    EXPECT_EQ(passes(), "in out connect");
    EXPECT_TRUE(TrafficGate::open(directory(path_))) << "not shut any more";
    shut_elsewhere(directory(path_));
    EXPECT_EQ(passes(), "") << "sockets that are there already";
    ASSERT_TRUE(TrafficGate::open(directory(path_)));
  }
}

TEST_F(TrafficGateTest, CgroupsBelowAreShutWithIt) {
  const auto gate = TrafficGate::load();
  ASSERT_TRUE(gate) << gate.error().text();
  open_sockets(AF_INET, child_);
  ASSERT_TRUE(gate->shut(directory(path_)));
  ASSERT_TRUE(gate->shut(directory(path_))) << "twice is once";
  EXPECT_EQ(passes(), "");
  ASSERT_TRUE(TrafficGate::open(directory(child_)));
  EXPECT_EQ(passes(), "") << "an ancestor's gate is not its own";
  ASSERT_TRUE(gate->shut(directory(child_)));
  ASSERT_TRUE(TrafficGate::open(directory(path_)));
  EXPECT_EQ(passes(), "") << "nor is its own the ancestor's";
  ASSERT_TRUE(TrafficGate::open(directory(child_)));
  EXPECT_EQ(passes(), "in out connect");
}

TEST_F(TrafficGateTest, TheMulticastFilterIsAnother) {
  const auto gate = TrafficGate::load();
  const auto filter = MulticastFilter::load();
  ASSERT_TRUE(gate && filter);
  open_sockets(AF_INET, path_);
  ASSERT_TRUE(filter->attach(directory(path_)));
  EXPECT_EQ(passes(), "in out connect");
  ASSERT_TRUE(gate->shut(directory(path_)));
  ASSERT_TRUE(MulticastFilter::detach(directory(path_)));
  EXPECT_EQ(passes(), "");
  ASSERT_TRUE(TrafficGate::open(directory(path_)));
  EXPECT_EQ(passes(), "in out connect");
}

TEST_F(TrafficGateTest, ACgroupThatIsGoneIsFine) {
  const auto gate = TrafficGate::load();
  ASSERT_TRUE(gate) << gate.error().text();
  EXPECT_TRUE(gate->shut(directory(path_ + "/gone")));
  EXPECT_TRUE(TrafficGate::open(directory(path_ + "/gone")));
}

}  // namespace
}  // namespace trireme::kernel
