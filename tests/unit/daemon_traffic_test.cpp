// SPDX-License-Identifier: Apache-2.0
// Open connections counted by their ends, and the bytes that they have moved.
#include <gmock/gmock.h>
#include <netinet/in.h>

#include <algorithm>
#include <set>
#include <string>

#include "../../src/daemon/traffic_count.hpp"

namespace trireme::daemon {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::uint64_t kWeb = 100;  // cgroups
constexpr std::uint64_t kDb = 101;
constexpr std::uint64_t kShell = 102;
constexpr std::uint64_t kHeld = 103;
constexpr std::uint64_t kCrowd = 1000;  // and above: each a workload of its own
constexpr policy::Number kWebNumber = abi::kFirstNumber;
constexpr policy::Number kDbNumber = abi::kFirstNumber + 1;
constexpr policy::Number kRemoteNumber = abi::kFirstNumber + 2;

std::optional<policy::Number> owner_of(std::uint64_t cgroup) {
  switch (cgroup) {
    case kWeb:
      return kWebNumber;
    case kDb:
      return kDbNumber;
    case kShell:
      return abi::kHost;
    case kHeld:
      return abi::kQuarantine;
    default:
      return cgroup < kCrowd
                 ? std::nullopt
                 : std::optional(abi::kFirstNumber + static_cast<std::uint32_t>(cgroup));
  }
}

kernel::InetSocket socket_of(std::uint64_t cgroup, const char* local, std::uint16_t local_port,
                             const char* remote, std::uint16_t remote_port,
                             std::uint64_t bytes = 0) {
  kernel::InetSocket made;
  made.protocol = IPPROTO_TCP;
  made.local = policy::Address::parse(local).value();
  made.local_port = local_port;
  made.remote = policy::Address::parse(remote).value();
  made.remote_port = remote_port;
  made.cgroup_id = cgroup;
  made.bytes = bytes;
  made.cookie = {local_port, remote_port};
  return made;
}

kernel::InetSocket listener(std::uint64_t cgroup, std::uint16_t port) {
  return socket_of(cgroup, "127.0.0.1", port, "0.0.0.0", 0);
}

class TrafficCounting : public ::testing::Test {
 protected:
  struct Network {
    std::uint64_t inode = 0;
    std::vector<kernel::InetSocket> sockets;
  };
  /// Reads these network namespaces. All of `exist` exist, also if they are not read.
  std::vector<TrafficGroup> read_all(const std::vector<Network>& networks,
                                     const std::set<std::uint64_t>& exist,
                                     std::optional<policy::Number> whole = std::nullopt) {
    TrafficCounter counter(baseline_, owner_of,
                           [this](const policy::LiveSocket& /*socket*/) { return proved_; });
    baseline_.begin(exist);
    for (const Network& each : networks) {
      counter.add(each.inode, each.sockets, {policy::Address::parse("10.0.0.1").value()}, whole);
    }
    auto groups = counter.groups();
    is_complete_ = counter.is_complete();
    return groups;
  }
  std::vector<TrafficGroup> read(const std::vector<kernel::InetSocket>& sockets,
                                 std::optional<policy::Number> whole = std::nullopt) {
    auto groups = read_all({{0, sockets}}, {0}, whole);
    EXPECT_TRUE(is_complete_);
    return groups;
  }
  /// A connection of web to db on loopback, both of whose sockets have moved so many bytes.
  static std::vector<kernel::InetSocket> local(std::uint64_t bytes, std::uint16_t port = 40000) {
    return {listener(kDb, 5432), socket_of(kWeb, "127.0.0.1", port, "127.0.0.1", 5432, bytes),
            socket_of(kDb, "127.0.0.1", 5432, "127.0.0.1", port, bytes)};
  }

  TrafficBaseline baseline_;
  std::optional<TrafficProof> proved_;
  bool is_complete_ = false;
};

/// `count` connections of web to as many addresses.
std::vector<kernel::InetSocket> scan(std::uint32_t count) {
  std::vector<kernel::InetSocket> sockets;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::string there = "198." + std::to_string(i >> 16U) + "." +
                              std::to_string(i >> 8U & 0xffU) + "." + std::to_string(i & 0xffU);
    sockets.push_back(socket_of(kWeb, "10.0.0.1", 40000, there.c_str(), 443));
    sockets.back().cookie = {i, 1};
  }
  return sockets;
}

TEST_F(TrafficCounting, AConnectionCountsOnce) {
  const auto groups = read(local(1000));
  ASSERT_THAT(groups, SizeIs(1));
  EXPECT_EQ(groups[0].from.number, kWebNumber);
  EXPECT_EQ(groups[0].to.number, kDbNumber);
  EXPECT_EQ(groups[0].connections, 1U);
  EXPECT_EQ(groups[0].bytes, 0U) << "nobody knows when it moved them";
}

TEST_F(TrafficCounting, BytesAreThoseSinceTheReadingBefore) {
  std::ignore = read(local(1000));
  EXPECT_EQ(read(local(1500)).at(0).bytes, 500U) << "both sockets have moved the same ones";
  auto more = local(1500);
  for (const kernel::InetSocket& socket : local(70, 40001)) {
    more.push_back(socket);
  }
  const auto groups = read(more);
  ASSERT_THAT(groups, SizeIs(1));
  EXPECT_EQ(groups[0].connections, 2U);
  EXPECT_EQ(groups[0].bytes, 70U) << "the second connection began since";
}

/// A namespace that could not be read before, or is new: its connections are not.
TEST_F(TrafficCounting, InANamespaceReadForTheFirstTimeASocketMayBeOld) {
  std::ignore = read_all({{0, {}}}, {0, 7});
  EXPECT_EQ(read_all({{0, {}}, {7, local(1000)}}, {0, 7}).at(0).bytes, 0U);
  EXPECT_EQ(read_all({{0, {}}, {7, local(1001)}}, {0, 7}).at(0).bytes, 1U);
  auto more = local(1001);
  more.push_back(socket_of(kWeb, "127.0.0.1", 40001, "127.0.0.1", 5432, 20));
  more.push_back(socket_of(kDb, "127.0.0.1", 5432, "127.0.0.1", 40001, 20));
  EXPECT_EQ(read_all({{7, more}}, {7}).at(0).bytes, 20U) << "the second connection began since";
  std::ignore = read_all({}, {});
  EXPECT_EQ(read_all({{7, more}}, {7}).at(0).bytes, 0U) << "another one with that inode";
}

TEST_F(TrafficCounting, BytesThatWereNotReadAreNotKnown) {
  std::ignore = read(local(1000));
  auto sockets = local(0);
  for (kernel::InetSocket& socket : sockets) {
    socket.bytes = std::nullopt;
  }
  EXPECT_EQ(read(sockets).at(0).connections, 1U);
  EXPECT_EQ(read(sockets).at(0).bytes, std::nullopt);
  EXPECT_EQ(read(local(5000)).at(0).bytes, 0U) << "not what it has moved since it began";
  EXPECT_EQ(read(local(5001)).at(0).bytes, 1U);
}

/// A socket whose owner was not known at the reading before is no new connection.
TEST_F(TrafficCounting, ASocketWithoutAnOwnerIsNotedToo) {
  auto sockets = local(1000);
  for (kernel::InetSocket& socket : sockets) {
    socket.cgroup_id = 999;
  }
  std::ignore = read(sockets);
  EXPECT_EQ(read(local(1500)).at(0).bytes, 500U);
}

TEST_F(TrafficCounting, OneWorkloadLeavesGroupsToOthers) {
  auto sockets = scan(30'000);
  sockets.push_back(listener(kDb, 80));
  sockets.push_back(socket_of(kDb, "10.0.0.1", 80, "192.0.2.9", 40000));
  const auto groups = read(sockets);
  ASSERT_THAT(groups, SizeIs(TrafficCounter::kMostAddresses + 2));
  std::uint64_t connections = 0;
  bool has_db = false;
  for (const TrafficGroup& group : groups) {
    connections += group.connections;
    if (group.from.number == kWebNumber && group.to.address == policy::Address{}) {
      EXPECT_EQ(group.connections, 30'000 - TrafficCounter::kMostAddresses);
    }
    has_db = has_db || (group.to.number == kDbNumber &&
                        group.from.address == policy::Address::parse("192.0.2.9").value());
  }
  EXPECT_TRUE(has_db);
  EXPECT_EQ(connections, 30'001U);
}

/// However many workloads talk.
TEST_F(TrafficCounting, GroupsAreBounded) {
  std::vector<kernel::InetSocket> sockets;
  for (std::uint32_t i = 0; i < TrafficCounter::kMostGroups + 100; ++i) {
    sockets.push_back(socket_of(kCrowd + i, "10.0.0.1", 40000, "192.0.2.9", 443));
    sockets.back().cookie = {i, 1};
  }
  EXPECT_THAT(read_all({{0, sockets}}, {0}), SizeIs(TrafficCounter::kMostGroups));
  EXPECT_FALSE(is_complete_);
}

TEST_F(TrafficCounting, OneWorkloadLeavesSocketsToOthers) {
  auto sockets = scan(TrafficCounter::kMostSockets / 2 + 10);
  sockets.push_back(listener(kDb, 80));
  sockets.push_back(socket_of(kDb, "10.0.0.1", 80, "192.0.2.9", 40000));
  const auto groups = read_all({{0, sockets}}, {0});
  EXPECT_FALSE(is_complete_);
  EXPECT_EQ(std::ranges::count(groups, kDbNumber,
                               [](const TrafficGroup& group) { return group.to.number; }),
            1);
}

TEST_F(TrafficCounting, OtherConnectionsAreNotListed) {
  EXPECT_THAT(read({listener(kShell, 80), socket_of(kShell, "127.0.0.1", 40000, "127.0.0.1", 80),
                    socket_of(kShell, "127.0.0.1", 80, "127.0.0.1", 40000)}),
              IsEmpty())
      << "no end is a workload";
  EXPECT_THAT(read({listener(kDb, 80), socket_of(kDb, "127.0.0.1", 40000, "127.0.0.1", 80),
                    socket_of(kDb, "127.0.0.1", 80, "127.0.0.1", 40000)}),
              IsEmpty())
      << "of a workload to itself";
  EXPECT_THAT(read({listener(kDb, 80), socket_of(kHeld, "127.0.0.1", 40000, "127.0.0.1", 80),
                    socket_of(kDb, "127.0.0.1", 80, "127.0.0.1", 40000)}),
              IsEmpty())
      << "quarantine ends it";
  EXPECT_THAT(read({listener(kDb, 80), socket_of(kDb, "127.0.0.1", 80, "127.0.0.1", 40000)}),
              IsEmpty())
      << "the client has closed it";
  EXPECT_THAT(read({listener(kDb, 80), socket_of(kDb, "10.0.0.1", 80, "10.0.0.1", 40000)}),
              IsEmpty())
      << "at another address of this host";
}

TEST_F(TrafficCounting, AnEndElsewhereIsWhatItHasProved) {
  const auto sockets = {socket_of(kWeb, "10.0.0.1", 40000, "10.0.0.2", 443)};
  auto groups = read(sockets);
  ASSERT_THAT(groups, SizeIs(1));
  EXPECT_EQ(groups[0].to.number, abi::kNoNumber);
  EXPECT_EQ(groups[0].to.address, policy::Address::parse("10.0.0.2").value());
  proved_ = TrafficProof{.is_client = true, .remote = kRemoteNumber};
  groups = read(sockets);
  ASSERT_THAT(groups, SizeIs(1));
  EXPECT_EQ(groups[0].to.number, kRemoteNumber);
  EXPECT_EQ(groups[0].from.number, kWebNumber);
}

/// Neither a listener nor the ports say so.
TEST_F(TrafficCounting, TheHandshakeKnowsTheClient) {
  proved_ = TrafficProof{.is_client = false, .remote = kRemoteNumber};
  const auto groups = read({socket_of(kDb, "10.0.0.1", 40000, "10.0.0.2", 443)});
  ASSERT_THAT(groups, SizeIs(1));
  EXPECT_EQ(groups[0].from.number, kRemoteNumber);
  EXPECT_EQ(groups[0].to.number, kDbNumber);
}

/// Through a published port: each end has a socket and a proof, and they have other addresses.
TEST_F(TrafficCounting, AConnectionBeyondNatCountsOnce) {
  proved_ = TrafficProof{.is_client = true, .remote = kRemoteNumber, .is_near = true};
  EXPECT_THAT(read({socket_of(kWeb, "10.0.0.1", 40000, "10.0.0.2", 443)}), IsEmpty());
  proved_->is_client = false;
  const auto groups =
      read({listener(kDb, 443), socket_of(kDb, "10.0.0.1", 443, "10.0.0.2", 50000)});
  ASSERT_THAT(groups, SizeIs(1));
  EXPECT_EQ(groups[0].from.number, kRemoteNumber);
  EXPECT_EQ(groups[0].to.number, kDbNumber);
}

TEST_F(TrafficCounting, AProcessOfThisHostIsTheWorldFromAnotherNetwork) {
  const std::vector<kernel::InetSocket> client = {
      socket_of(kShell, "10.0.0.2", 40000, "10.0.0.1", 80)};
  const std::vector<kernel::InetSocket> server = {
      socket_of(kDb, "0.0.0.0", 80, "0.0.0.0", 0),
      socket_of(kDb, "10.0.0.1", 80, "10.0.0.2", 40000)};
  const auto apart = read_all({{1, client}, {2, server}}, {1, 2});
  ASSERT_THAT(apart, SizeIs(1));
  EXPECT_EQ(apart[0].from.number, abi::kNoNumber);
  EXPECT_EQ(apart[0].from.address, policy::Address::parse("10.0.0.2").value());
}

TEST_F(TrafficCounting, AProcessOfThisHostIsTheHostInItsNetwork) {
  auto groups = read({listener(kDb, 80), socket_of(kShell, "127.0.0.1", 40000, "127.0.0.1", 80),
                      socket_of(kDb, "127.0.0.1", 80, "127.0.0.1", 40000)});
  ASSERT_THAT(groups, SizeIs(1));
  EXPECT_EQ(groups[0].from.number, abi::kHost);
}

TEST_F(TrafficCounting, AContainerWithoutACgroupOwnsItsNetwork) {
  const auto groups = read({socket_of(kShell, "10.0.0.1", 40000, "10.0.0.2", 443)}, kWebNumber);
  ASSERT_THAT(groups, SizeIs(1));
  EXPECT_EQ(groups[0].from.number, kWebNumber);
}

}  // namespace
}  // namespace trireme::daemon
