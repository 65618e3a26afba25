// The filter on a cgroup of our own: which datagrams its sockets still get. Needs root and cgroup
// v2.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "trireme/kernel/cgroup.hpp"
#include "trireme/kernel/multicast_filter.hpp"

namespace trireme::kernel {
namespace {

constexpr std::uint16_t kPort = 5007;

sockaddr_in to(const char* address) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_port = htons(kPort);
  ::inet_pton(AF_INET, address, &result.sin_addr);
  return result;
}

/// A receiver of 239.1.1.1 and 127.0.0.1, made by a process in whatever cgroup we are in.
Fd receiver() {
  Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const int one = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  const sockaddr_in any = to("0.0.0.0");
  EXPECT_EQ(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any), 0);
  ip_mreqn group{};
  ::inet_pton(AF_INET, "239.1.1.1", &group.imr_multiaddr);
  group.imr_ifindex = 1;  // lo
  EXPECT_EQ(::setsockopt(fd.get(), IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group), 0)
      << std::strerror(errno);
  return fd;
}

void send(const char* address) {
  const Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const int one = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_BROADCAST, &one, sizeof one);
  ASSERT_EQ(::setsockopt(fd.get(), SOL_SOCKET, SO_BINDTODEVICE, "lo", 2), 0)
      << std::strerror(errno);
  const sockaddr_in destination = to(address);
  ASSERT_EQ(::sendto(fd.get(), address, std::strlen(address), 0,
                     reinterpret_cast<const sockaddr*>(&destination), sizeof destination),
            static_cast<ssize_t>(std::strlen(address)))
      << address << ": " << std::strerror(errno);
}

/// What `fd` has received, in order, each datagram being the address it was sent to. Loopback
/// delivers before sendto(2) returns.
std::string received(const Fd& fd) {
  std::string all;
  std::array<char, 64> buffer{};
  for (ssize_t size = 0;
       (size = ::recv(fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT)) > 0;) {
    all += std::string(buffer.data(), static_cast<std::size_t>(size)) + " ";
  }
  return all;
}

void bring_lo_up() {
  const Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strncpy(request.ifr_name, "lo", IFNAMSIZ - 1);
  request.ifr_flags = IFF_UP | IFF_RUNNING | IFF_MULTICAST;
  ASSERT_EQ(::ioctl(fd.get(), SIOCSIFFLAGS, &request), 0);
}

class MulticastFilterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
    tree_ = CgroupTree::find();
    ASSERT_TRUE(tree_) << tree_.error().text();
    path_ = "/trireme-test-mcast-" + std::to_string(::getpid());
    ASSERT_TRUE(tree_->create(path_));
    home_ = *CgroupTree::of(static_cast<std::uint32_t>(::getpid()));
  }
  void TearDown() override {
    if (!path_.empty()) {
      EXPECT_TRUE(tree_->place(home_, static_cast<std::uint32_t>(::getpid())));
      EXPECT_TRUE(tree_->remove(path_));
    }
  }
  void enter(const std::string& path) {
    ASSERT_TRUE(tree_->place(path, static_cast<std::uint32_t>(::getpid())));
  }

  Result<CgroupTree> tree_ = fail("not looked for");
  std::string path_;
  std::string home_;
};

TEST_F(MulticastFilterTest, OnlyUnicastReachesTheCgroup) {
  ASSERT_EQ(::unshare(CLONE_NEWNET), 0) << std::strerror(errno);
  bring_lo_up();
  const auto filter = MulticastFilter::load();
  ASSERT_TRUE(filter) << filter.error().text();
  const std::string directory = tree_->absolute(path_);
  ASSERT_TRUE(filter->attach(directory));
  ASSERT_TRUE(filter->attach(directory)) << "attaching twice is once";

  enter(path_);
  const Fd inside = receiver();
  enter(home_);
  const Fd outside = receiver();
  for (const char* address : {"239.1.1.1", "255.255.255.255"}) {
    send(address);
  }
  EXPECT_EQ(received(inside), "");
  EXPECT_EQ(received(outside), "239.1.1.1 255.255.255.255 ") << "others get what they got before";
  send("127.0.0.1");
  EXPECT_EQ(received(inside) + received(outside), "127.0.0.1 ");

  ASSERT_TRUE(MulticastFilter::detach(directory));
  send("239.1.1.1");
  EXPECT_EQ(received(inside), "239.1.1.1 ") << "the filter is what kept it away";
  EXPECT_TRUE(MulticastFilter::detach(directory)) << "there is none any more";
}

/// nf_tables finds no socket for such a packet, so that nobody could say whose it is.
TEST_F(MulticastFilterTest, NoTransportReachesTheCgroupThatRulesCannotJudge) {
  ASSERT_EQ(::unshare(CLONE_NEWNET), 0) << std::strerror(errno);
  bring_lo_up();
  const auto filter = MulticastFilter::load();
  ASSERT_TRUE(filter) << filter.error().text();
  const std::string directory = tree_->absolute(path_);
  ASSERT_TRUE(filter->attach(directory));
  const sockaddr_in address = to("127.0.0.1");
  enter(path_);
  const Fd inside(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDPLITE));
  enter(home_);
  if (!inside.valid()) {
    GTEST_SKIP() << "this kernel has no UDP-Lite";
  }
  ASSERT_EQ(::bind(inside.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  const Fd sender(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDPLITE));
  const auto send_one = [&] {
    return ::sendto(sender.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&address),
                    sizeof address);
  };
  ASSERT_EQ(send_one(), 1);
  EXPECT_EQ(received(inside), "");
  ASSERT_TRUE(MulticastFilter::detach(directory));
  ASSERT_EQ(send_one(), 1);
  EXPECT_EQ(received(inside), "x ") << "the filter is what kept it away";
}

/// From this host to the address of a device: TCP and UDP find sockets of that device, nf_tables
/// looks for sockets of lo.
TEST_F(MulticastFilterTest, WhoIsBoundToADeviceIsReachedByThatDeviceAlone) {
  ASSERT_EQ(::unshare(CLONE_NEWNET), 0) << std::strerror(errno);
  bring_lo_up();
  ASSERT_EQ(std::system("ip link add v0 type veth peer name v1 && ip link set v0 up && ip addr add "
                        "10.77.0.1/24 dev v0"),
            0);
  const auto filter = MulticastFilter::load();
  ASSERT_TRUE(filter) << filter.error().text();
  const std::string directory = tree_->absolute(path_);
  enter(path_);
  const Fd bound(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in any = to("0.0.0.0");
  const sockaddr_in address = to("10.77.0.1");
  for (const Fd* socket : {&bound, &listener}) {
    ASSERT_EQ(::setsockopt(socket->get(), SOL_SOCKET, SO_BINDTODEVICE, "v0", 2), 0)
        << std::strerror(errno);
    ASSERT_EQ(::bind(socket->get(), reinterpret_cast<const sockaddr*>(&any), sizeof any), 0);
  }
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  enter(home_);
  const auto reach = [&] {
    const Fd sender(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::sendto(sender.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&address),
                       sizeof address),
              1);
    const Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    std::ignore = ::connect(client.get(), reinterpret_cast<const sockaddr*>(&address),
                            sizeof address);  // loopback answers before it returns
    pollfd connected{.fd = listener.get(), .events = POLLIN, .revents = 0};
    return received(bound) + (::poll(&connected, 1, 0) == 1 ? "connected" : "");
  };
  ASSERT_TRUE(filter->attach(directory));
  EXPECT_EQ(reach(), "");
  ASSERT_TRUE(MulticastFilter::detach(directory));
  EXPECT_EQ(reach(), "x connected") << "the filter is what kept it away";
}

TEST_F(MulticastFilterTest, ACgroupThatIsGoneIsFine) {
  const auto filter = MulticastFilter::load();
  ASSERT_TRUE(filter) << filter.error().text();
  EXPECT_TRUE(filter->attach(tree_->absolute(path_ + "/gone")));
  EXPECT_TRUE(MulticastFilter::detach(tree_->absolute(path_ + "/gone")));
}

}  // namespace
}  // namespace trireme::kernel
