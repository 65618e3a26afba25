// SPDX-License-Identifier: Apache-2.0
// The rules of a network namespace that has an owner: sockets of no enrolled cgroup are the
// owner's.
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/ip.h>
#include <netinet/udp.h>

#include "enforcer_support.hpp"

namespace trireme::enforcer {
namespace {

constexpr std::uint16_t kPort = 5'353;

/// A veth pair with both devices in this namespace: what is sent on one arrives on the other as if
/// from another host.
class EnforcerOwned : public EnforcerTest {
 protected:
  void SetUp() override {
    EnforcerTest::SetUp();
    if (IsSkipped()) {
      return;
    }
    open(std::make_shared<policy::Policy>(), {.owned = true});
    output("ip link add here type veth peer name there");
    output("ip address add 10.9.9.1/24 dev here");
    output("ip link set here up");
    output("ip link set there up");
    output("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.here.rp_filter=0");
  }

  static std::array<std::uint8_t, ETH_ALEN> link_address(const std::string& device) {
    const Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request{};
    std::strncpy(request.ifr_name, device.c_str(), IFNAMSIZ - 1);
    EXPECT_EQ(::ioctl(fd.get(), SIOCGIFHWADDR, &request), 0);
    std::array<std::uint8_t, ETH_ALEN> address{};
    std::memcpy(address.data(), request.ifr_hwaddr.sa_data, ETH_ALEN);
    return address;
  }

  static std::uint16_t checksum(const std::uint8_t* bytes, std::size_t size) {
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < size; i += 2) {
      sum += static_cast<std::uint32_t>(bytes[i] << 8U | bytes[i + 1]);
    }
    sum = (sum & 0xffffU) + (sum >> 16U);
    return htons(static_cast<std::uint16_t>(~(sum + (sum >> 16U))));
  }

  /// Sends a datagram from 10.9.9.2, as a neighbor on the link could.
  static void send(const std::array<std::uint8_t, ETH_ALEN>& link, const char* address) {
    std::array<std::uint8_t, sizeof(iphdr) + sizeof(udphdr) + 2> packet{};
    iphdr ip{};
    ip.version = 4;
    ip.ihl = 5;
    ip.ttl = 64;
    ip.protocol = IPPROTO_UDP;
    ip.tot_len = htons(packet.size());
    ip.saddr = ::inet_addr("10.9.9.2");
    ip.daddr = ::inet_addr(address);
    std::memcpy(packet.data(), &ip, sizeof ip);
    ip.check = checksum(packet.data(), sizeof ip);
    std::memcpy(packet.data(), &ip, sizeof ip);
    udphdr udp{};
    udp.source = htons(40'000);
    udp.dest = htons(kPort);
    udp.len = htons(sizeof udp + 2);
    std::memcpy(packet.data() + sizeof ip, &udp, sizeof udp);
    const Fd fd(::socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    to.sll_protocol = htons(ETH_P_IP);
    to.sll_ifindex = static_cast<int>(::if_nametoindex("there"));
    to.sll_halen = ETH_ALEN;
    std::ranges::copy(link, to.sll_addr);
    EXPECT_EQ(::sendto(fd.get(), packet.data(), packet.size(), 0,
                       reinterpret_cast<const sockaddr*>(&to), sizeof to),
              static_cast<ssize_t>(packet.size()))
        << std::strerror(errno);
  }

  /// Sends a datagram in a unicast frame, one in a broadcast frame, and two to broadcast addresses.
  /// Returns how many of them the socket receives.
  int received(const Fd& socket) {
    constexpr std::array<std::uint8_t, ETH_ALEN> everybody = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    send(link_address("here"), "10.9.9.1");
    send(everybody, "10.9.9.1");
    send(everybody, "255.255.255.255");
    send(everybody, "10.9.9.255");
    int count = 0;
    std::array<char, 64> buffer{};
    while (readable(socket, 200) && ::recv(socket.get(), buffer.data(), buffer.size(), 0) >= 0) {
      count++;
    }
    return count;
  }

  /// A socket in no workload's cgroup, like that of a container without a cgroup of its own.
  Fd receiver() {
    Fd socket = socket_in("", SOCK_DGRAM);
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_port = htons(kPort);
    EXPECT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any), 0);
    return socket;
  }

  const workload::CgroupRef whole_ = {.whole_network = true};
};

TEST_F(EnforcerOwned, ABroadcastFrameIsNoWayIn) {
  const Fd socket = receiver();
  ASSERT_EQ(received(socket), 4) << "before anything is enforced";
  ASSERT_TRUE(enforcer_->enrol(whole_, labeled("app", "web"), 0));
  ASSERT_TRUE(enforcer_->start());
  EXPECT_EQ(received(socket), 0);
}

TEST_F(EnforcerOwned, NorOneInQuarantine) {
  const Fd socket = receiver();
  ASSERT_TRUE(enforcer_->quarantine(whole_));
  ASSERT_TRUE(enforcer_->start());
  EXPECT_EQ(received(socket), 0);
}

TEST_F(EnforcerOwned, WhatIsNobodysReceivesAsBefore) {
  const Fd socket = receiver();
  workload::CgroupRef unit = ref(make("unit"));
  unit.unowned = true;
  ASSERT_TRUE(enforcer_->enrol(unit, labeled("app", "web"), 0));
  ASSERT_TRUE(enforcer_->start());
  EXPECT_EQ(received(socket), 4);
}

}  // namespace
}  // namespace trireme::enforcer
