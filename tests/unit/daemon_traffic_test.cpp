// SPDX-License-Identifier: Apache-2.0
// Open connections counted by their ends, and the bytes that they have moved.
#include <gmock/gmock.h>
#include <netinet/in.h>

#include "../../src/daemon/traffic_count.hpp"

namespace trireme::daemon {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr std::uint64_t kWeb = 100;  // cgroups
constexpr std::uint64_t kDb = 101;
constexpr std::uint64_t kShell = 102;
constexpr std::uint64_t kHeld = 103;
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
      return std::nullopt;
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
  std::vector<TrafficGroup> read(const std::vector<kernel::InetSocket>& sockets,
                                 std::optional<policy::Number> whole = std::nullopt,
                                 bool complete = true) {
    TrafficCounter counter(baseline_, owner_of,
                           [this](const policy::LiveSocket& /*socket*/) { return proved_; });
    baseline_.begin();
    counter.add(0, sockets, {policy::Address::parse("10.0.0.1").value()}, whole);
    auto groups = counter.groups();
    EXPECT_TRUE(counter.is_complete());
    baseline_.end(complete);
    return groups;
  }
  /// A connection of web to db on loopback, both of whose sockets have moved so many bytes.
  static std::vector<kernel::InetSocket> local(std::uint64_t bytes, std::uint16_t port = 40000) {
    return {listener(kDb, 5432), socket_of(kWeb, "127.0.0.1", port, "127.0.0.1", 5432, bytes),
            socket_of(kDb, "127.0.0.1", 5432, "127.0.0.1", port, bytes)};
  }

  TrafficBaseline baseline_;
  std::optional<handshake::ProvedFlow> proved_;
};

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

TEST_F(TrafficCounting, AfterAnIncompleteReadingANewSocketMayBeOld) {
  std::ignore = read({}, std::nullopt, false);
  EXPECT_EQ(read(local(1000)).at(0).bytes, 0U);
  EXPECT_EQ(read(local(1001)).at(0).bytes, 1U);
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
  proved_.emplace();
  proved_->key.role = handshake::Role::client;
  proved_->local = kWebNumber;
  proved_->remote = kRemoteNumber;
  groups = read(sockets);
  ASSERT_THAT(groups, SizeIs(1));
  EXPECT_EQ(groups[0].to.number, kRemoteNumber);
  EXPECT_EQ(groups[0].from.number, kWebNumber);
}

/// Neither a listener nor the ports say so.
TEST_F(TrafficCounting, TheHandshakeKnowsTheClient) {
  proved_.emplace();
  proved_->key.role = handshake::Role::server;
  proved_->remote = kRemoteNumber;
  const auto groups = read({socket_of(kDb, "10.0.0.1", 40000, "10.0.0.2", 443)});
  ASSERT_THAT(groups, SizeIs(1));
  EXPECT_EQ(groups[0].from.number, kRemoteNumber);
  EXPECT_EQ(groups[0].to.number, kDbNumber);
}

TEST_F(TrafficCounting, AProcessOfThisHostIsTheWorldFromAnotherNetwork) {
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
