// SPDX-License-Identifier: Apache-2.0
// TCP connections as sock_diag reports them, in a network namespace that the test creates.
#include "trireme/kernel/sockets.hpp"

#include <algorithm>

#include "kernel_support.hpp"

namespace trireme::kernel {
namespace {

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in end{};
  end.sin_family = AF_INET;
  end.sin_port = htons(port);
  end.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return end;
}

class SocketTableTest : public NamespaceTest {
 protected:
  void SetUp() override {
    NamespaceTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    for (Fd* fd : {&listener_, &client_}) {
      *fd = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    }
    sockaddr_in end = loopback(0);
    socklen_t size = sizeof end;
    auto* raw = reinterpret_cast<sockaddr*>(&end);
    ASSERT_EQ(::bind(listener_.get(), raw, size), 0);
    ASSERT_EQ(::listen(listener_.get(), 4), 0);
    ASSERT_EQ(::getsockname(listener_.get(), raw, &size), 0);
    port_ = ntohs(end.sin_port);
    ASSERT_EQ(::connect(client_.get(), raw, size), 0);
    server_ = Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    ASSERT_TRUE(server_.valid());
  }
  /// The client's socket.
  [[nodiscard]] std::optional<InetSocket> find() const {
    auto table = SocketTable::open();
    const auto list = table->connections();
    const auto found = std::ranges::find(*list, port_, &InetSocket::remote_port);
    return found == list->end() ? std::nullopt : std::optional(*found);
  }

  Fd listener_;
  Fd client_;
  Fd server_;
  std::uint16_t port_ = 0;
};

TEST_F(SocketTableTest, AConnectionHasItsCgroupAndCookie) {
  const auto found = find();
  ASSERT_TRUE(found);
  EXPECT_NE(found->cgroup_id, 0U);
  EXPECT_NE(found->whole_cookie(), 0U);
  EXPECT_EQ(found->local, policy::Address::parse("127.0.0.1").value());
}

/// The daemon has a table for each network namespace, and itself stays in its own.
TEST_F(SocketTableTest, AConnectionHasAnOwnerWhileAProcessHasIt) {
  auto table = SocketTable::open();
  const auto ends = find();
  ASSERT_TRUE(ends);
  ASSERT_EQ(::fchown(client_.get(), 65534, 65534), 0);
  EXPECT_EQ(table->owner_of(*ends).value(), std::optional<std::uint32_t>(65534));
  InetSocket other = *ends;
  other.local_port = static_cast<std::uint16_t>(other.local_port ^ 1U);
  EXPECT_EQ(table->owner_of(other).value(), std::nullopt);
  // Unread data keeps the connection; the kernel would now say that root owns it.
  client_.reset();
  EXPECT_EQ(table->owner_of(*ends).value(), std::nullopt);
}

TEST_F(SocketTableTest, AConnectionIsEndedInTheNamespaceOfTheTable) {
  auto table = SocketTable::open();
  ASSERT_TRUE(table) << table.error().text();
  const auto found = find();
  ASSERT_TRUE(found);
  ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
  EXPECT_TRUE(table->destroy(*found));
  char byte = 0;
  EXPECT_EQ(::recv(client_.get(), &byte, 1, MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, ECONNABORTED);
  EXPECT_TRUE(table->destroy(*found)) << "it no longer exists";
}

TEST_F(SocketTableTest, ListenersAreListedWithConnections) {
  const Fd datagrams(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in end = loopback(0);
  ASSERT_EQ(::bind(datagrams.get(), reinterpret_cast<sockaddr*>(&end), sizeof end), 0);
  auto table = SocketTable::open();
  const auto list = table->connections_and_listeners();
  ASSERT_TRUE(list);
  EXPECT_EQ(list->size(), 3U) << "a listener, and both ends of a connection";
  const auto listening = std::ranges::find(*list, 0, &InetSocket::remote_port);
  ASSERT_NE(listening, list->end());
  EXPECT_EQ(listening->local_port, port_);
  EXPECT_NE(listening->cgroup_id, 0U);
  EXPECT_EQ(table->connections()->size(), 2U);
  const auto udp = table->datagram_sockets();
  ASSERT_TRUE(udp);
  EXPECT_EQ(udp->size(), 1U);
  EXPECT_EQ(udp->front().protocol, IPPROTO_UDP);
}

TEST_F(SocketTableTest, BytesInBothDirectionsAreCounted) {
  const std::vector<char> data(5000);
  ASSERT_EQ(::send(client_.get(), data.data(), data.size(), 0), 5000);
  ASSERT_EQ(::send(server_.get(), data.data(), 1000, 0), 1000);
  auto table = SocketTable::open();
  std::uint64_t bytes = 0;
  // On loopback an acknowledgement takes a moment, not a round trip.
  for (int attempt = 0; attempt < 1000 && bytes < 6000; ++attempt) {
    const auto list = table->connections_with_bytes();
    ASSERT_TRUE(list);
    EXPECT_EQ(list->size(), 3U) << "a listener, and both ends of a connection";
    const auto found = std::ranges::find(*list, port_, &InetSocket::remote_port);
    ASSERT_NE(found, list->end());
    EXPECT_NE(found->cgroup_id, 0U);
    bytes = found->bytes.value_or(0);
  }
  EXPECT_GE(bytes, 6000U);
  EXPECT_LE(bytes, 6002U) << "the SYN and the FIN may count as a byte each";
  EXPECT_EQ(find().value().bytes, std::nullopt) << "not asked for";
}

TEST_F(SocketTableTest, WhatItsProcessHasClosedIsThereUntilItIsOver) {
  const std::uint64_t cookie = find().value().whole_cookie();
  const std::vector<char> data(1U << 16U);
  while (::send(client_.get(), data.data(), data.size(), MSG_DONTWAIT) > 0) {
  }
  client_.reset();  // what it sent still waits to be read by the server
  const auto closed = find();
  ASSERT_TRUE(closed);
  EXPECT_EQ(closed->whole_cookie(), cookie);
  server_.reset();  // unread data: the server resets the connection
  EXPECT_FALSE(find());
}

}  // namespace
}  // namespace trireme::kernel
