// SPDX-License-Identifier: Apache-2.0
// Conntrack entries of a network namespace that the test creates. Needs root.
#include "trireme/kernel/conntrack.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
// These kernel headers must come after netinet/in.h.
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include <cstring>
#include <vector>

#include "trireme/base/fd.hpp"
#include "trireme/kernel/nft.hpp"

namespace trireme::kernel {
namespace {

constexpr const char* kTable = "trireme_unit";
constexpr std::uint32_t kFirst = 0x5;
constexpr std::uint32_t kLast = 0x80000001;

/// A rule gives every flow the same label: kFirst in the first word, kLast in the last.
class ConntrackTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
    if (::unshare(CLONE_NEWNET) != 0) {
      GTEST_SKIP() << "cannot make a network namespace";
    }
    const Fd lo(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request{};
    std::strncpy(request.ifr_name, "lo", IFNAMSIZ - 1);
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    ASSERT_EQ(::ioctl(lo.get(), SIOCSIFFLAGS, &request), 0);
    auto nft = NftSocket::open();
    ASSERT_TRUE(nft);
    NftBatch batch(kTable);
    batch.add_table();
    batch.add_chain("output", NftBaseChain{NF_INET_LOCAL_OUT, 0});
    NftRule rule;
    rule.immediate(8, NftBytes::u32(kFirst).add_u32(0).add_u32(0).add_u32(kLast))
        .set_ct(NFT_CT_LABELS, 8);
    batch.add_rule("output", rule);
    const Status done = nft->commit(std::move(batch));
    ASSERT_TRUE(done) << done.error().text();
    auto conntrack = Conntrack::open();
    ASSERT_TRUE(conntrack) << conntrack.error().text();
    conntrack_ = std::make_unique<Conntrack>(std::move(*conntrack));
  }

  /// Sends a datagram from a new socket to itself, in either family.
  static Fd talk(int family) {
    Fd fd(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_storage address{};
    address.ss_family = static_cast<sa_family_t>(family);
    if (family == AF_INET) {
      reinterpret_cast<sockaddr_in*>(&address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else {
      reinterpret_cast<sockaddr_in6*>(&address)->sin6_addr = in6addr_loopback;
    }
    socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    Fd other(::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::sendto(other.get(), "x", 1, 0, reinterpret_cast<sockaddr*>(&address), size), 1);
    char byte = 0;
    EXPECT_EQ(::recv(fd.get(), &byte, 1, 0), 1);
    return fd;
  }
  static std::uint16_t port_of(const Fd& fd) {
    sockaddr_in6 address{};  // sin_port and sin6_port have the same offset
    socklen_t size = sizeof address;
    EXPECT_EQ(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    return ntohs(address.sin6_port);
  }
  std::vector<TrackedFlow> flows() {
    std::vector<TrackedFlow> list;
    const Status done = conntrack_->each([&](const TrackedFlow& flow) { list.push_back(flow); });
    EXPECT_TRUE(done) << (done ? "" : done.error().text());
    return list;
  }

  std::unique_ptr<Conntrack> conntrack_;
};

TEST_F(ConntrackTest, ListsBothFamiliesWithTheirLabels) {
  EXPECT_TRUE(flows().empty());
  const Fd four = talk(AF_INET);
  const Fd six = talk(AF_INET6);
  const auto list = flows();
  ASSERT_EQ(list.size(), 2U);
  for (const TrackedFlow& flow : list) {
    const bool v4 = flow.original.source.family == policy::Address::Family::v4;
    EXPECT_EQ(flow.protocol, IPPROTO_UDP);
    EXPECT_EQ(flow.original.source.text(), v4 ? "127.0.0.1" : "::1");
    EXPECT_EQ(flow.original.destination_port, port_of(v4 ? four : six));
    EXPECT_EQ(flow.reply.source_port, flow.original.destination_port);
    EXPECT_EQ(flow.reply.destination_port, flow.original.source_port);
    EXPECT_EQ(flow.label, (std::array<std::uint32_t, 4>{kFirst, 0, 0, kLast}));
    EXPECT_EQ(flow.zone, 0U);
  }
}

TEST_F(ConntrackTest, FindsOneByItsOriginalDirection) {
  const Fd fd = talk(AF_INET6);
  const TrackedFlow flow = flows().at(0);
  TrackedFlow found;
  EXPECT_EQ(conntrack_->find(flow.protocol, flow.original, found), true);
  EXPECT_EQ(found.original, flow.original);
  EXPECT_EQ(found.label, flow.label);
  TrackedFlow untouched;
  FlowTuple none = flow.original;
  none.destination_port ^= 1U;
  EXPECT_EQ(conntrack_->find(flow.protocol, none, untouched), false);
  EXPECT_EQ(untouched.protocol, 0U);
}

TEST_F(ConntrackTest, ClearsBitsOfOneFlowAndNoOther) {
  const Fd first = talk(AF_INET);
  const Fd second = talk(AF_INET);
  auto list = flows();
  ASSERT_EQ(list.size(), 2U);
  ASSERT_TRUE(conntrack_->clear_label_bits(list[0], 0x4));
  TrackedFlow found;
  ASSERT_EQ(conntrack_->find(list[0].protocol, list[0].original, found), true);
  EXPECT_EQ(found.label, (std::array<std::uint32_t, 4>{0x1, 0, 0, kLast}))
      << "the other bits are unchanged";
  ASSERT_EQ(conntrack_->find(list[1].protocol, list[1].original, found), true);
  EXPECT_EQ(found.label, list[1].label);
  ASSERT_TRUE(conntrack_->clear_label_bits(list[0], ~0U));
  ASSERT_EQ(conntrack_->find(list[0].protocol, list[0].original, found), true);
  EXPECT_EQ(found.label, (std::array<std::uint32_t, 4>{0, 0, 0, kLast}))
      << "only the first word is cleared";
}

TEST_F(ConntrackTest, RemovesOneFlow) {
  const Fd first = talk(AF_INET);
  const Fd second = talk(AF_INET);
  const auto list = flows();
  ASSERT_EQ(list.size(), 2U);
  ASSERT_TRUE(conntrack_->remove(list[0]));
  EXPECT_EQ(flows().size(), 1U);
  EXPECT_TRUE(conntrack_->remove(list[0])) << "gone already";
  EXPECT_TRUE(conntrack_->clear_label_bits(list[0], kFirst)) << "gone already";
  EXPECT_EQ(flows().at(0).original, list[1].original);
}

}  // namespace
}  // namespace trireme::kernel
