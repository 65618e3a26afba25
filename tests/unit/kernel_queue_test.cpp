// SPDX-License-Identifier: Apache-2.0
// NFQUEUEs of a network namespace that the test creates, with real sockets at both ends. Needs
// root.
#include "trireme/kernel/queue.hpp"

#include <algorithm>
#include <array>

#include "kernel_support.hpp"
#include "trireme/kernel/queue_counters.hpp"

namespace trireme::kernel {
namespace {

constexpr std::uint16_t kPort = 5353;
constexpr std::uint16_t kNumber = 11;
constexpr std::uint32_t kMark = 9;
constexpr std::uint32_t kPriorityIn = 0x01123456;
constexpr std::uint32_t kPriorityOut = 0x02fedcba;

class QueueTest : public NamespaceTest {
 protected:
  void SetUp() override {
    NamespaceTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    const auto mechanism = probe_queue();
    ASSERT_TRUE(mechanism) << mechanism.error().text();
    mechanism_ = *mechanism;
    const auto left = nft_->table_exists("trireme_probe");
    ASSERT_TRUE(left && !*left) << "the probe leaves nothing";
  }

  /// Queues packets to kPort that have these TCP flags among SYN and ACK (nullopt: of any
  /// protocol), with kPriorityIn and kMark. Records their priorities after the verdict.
  void queue_output(std::optional<std::uint8_t> flags = std::nullopt) {
    NftBatch batch(kTestTable);
    batch.add_table();
    batch.add_set(seen("priorities"));
    batch.add_chain("output", NftBaseChain{NF_INET_LOCAL_OUT, 0});
    batch.add_chain("later", NftBaseChain{NF_INET_LOCAL_OUT, 10});
    NftRule rule;
    rule.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 0).equal(0, port_key());
    if (flags) {
      rule.meta(NFT_META_L4PROTO, 1).equal(1, NftBytes::u8(IPPROTO_TCP));
      rule.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1, 1)
          .mask(1, NftBytes::u8(0x12))
          .equal(1, NftBytes::u8(*flags));
    }
    rule.immediate(2, NftBytes::u32(kPriorityIn)).set_meta(NFT_META_PRIORITY, 2);
    rule.immediate(3, NftBytes::u32(kMark)).set_meta(NFT_META_MARK, 3);
    rule.queue(mechanism_, kNumber);
    batch.add_rule("output", rule);
    NftRule note;
    note.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 0)
        .equal(0, port_key())
        .meta(NFT_META_PRIORITY, 1)
        .add_to("priorities", 1);
    batch.add_rule("later", note);
    commit(std::move(batch));
  }
  static NftBytes port_key() {
    const std::array<std::uint8_t, 2> bytes = {kPort >> 8U, kPort & 0xffU};
    return NftBytes().add_raw(bytes);
  }
  void bind(std::uint32_t length = 1024) {
    auto queue = Queue::bind(kNumber, length);
    ASSERT_TRUE(queue) << queue.error().text();
    queue_ = std::make_unique<Queue>(std::move(*queue));
  }
  /// A datagram passes OUTPUT before sendto(2) returns.
  static void send(const std::string& text) {
    const Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const Endpoint to = loopback(AF_INET, kPort);
    (void)::sendto(fd.get(), text.data(), text.size(), 0, to.get(), to.size);
  }
  static std::string text_of(const QueuedPacket& packet) {
    return {packet.bytes.begin() + 28, packet.bytes.end()};
  }

  QueueMechanism mechanism_ = QueueMechanism::native;
  std::unique_ptr<Queue> queue_;
};

TEST_F(QueueTest, ASynComesWithItsPriorityAndGoesOnWithAnother) {
  queue_output(0x02);
  bind();
  for (const int family : {AF_INET, AF_INET6}) {
    const Fd listener = bound(family, SOCK_STREAM, kPort);
    ASSERT_EQ(::listen(listener.get(), 1), 0);
    const Fd client(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const Endpoint to = loopback(family, kPort);
    ASSERT_EQ(::connect(client.get(), to.get(), to.size), -1);
    ASSERT_TRUE(readable(queue_->fd()));
    const auto packets = queue_->receive();
    ASSERT_EQ(packets.size(), 1U);
    const QueuedPacket& packet = packets.front();
    EXPECT_EQ(packet.hook, NF_INET_LOCAL_OUT);
    EXPECT_EQ(packet.priority, kPriorityIn);
    EXPECT_EQ(packet.mark, kMark);
    EXPECT_EQ(packet.in_device, 0U);
    EXPECT_EQ(packet.out_device, 1U);
    EXPECT_EQ(packet.bytes[0] >> 4U, family == AF_INET ? 4 : 6);
    EXPECT_EQ(packet.length, packet.bytes.size());
    EXPECT_FALSE(readable(listener.get(), 0)) << "the packet waits for a verdict";
    EXPECT_EQ(numbers("priorities").size(), family == AF_INET ? 0U : 2U);
    queue_->accept(packet.id, kPriorityOut);
    queue_->flush();
    ASSERT_TRUE(readable(listener.get()));
    const auto list = numbers("priorities");
    EXPECT_NE(std::find(list.begin(), list.end(), kPriorityOut), list.end());
    EXPECT_EQ(std::find(list.begin(), list.end(), kPriorityIn), list.end());
  }
  EXPECT_EQ(queue_->lost(), 0U);
}

TEST_F(QueueTest, NoPriorityIsZero) {
  NftBatch batch(kTestTable);
  batch.add_table();
  batch.add_chain("output", NftBaseChain{NF_INET_LOCAL_OUT, 0});
  NftRule rule;
  rule.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 0)
      .equal(0, port_key())
      .queue(mechanism_, kNumber);
  batch.add_rule("output", rule);
  commit(std::move(batch));
  bind();
  send("x");
  const auto packets = queue_->receive();
  ASSERT_EQ(packets.size(), 1U);
  EXPECT_EQ(packets[0].priority, 0U);
  EXPECT_EQ(packets[0].mark, 0U);
}

TEST_F(QueueTest, TheReceiverSeesAChangedPacket) {
  queue_output();
  bind();
  const Fd receiver = bound(AF_INET, SOCK_DGRAM, kPort);
  send("short");
  const auto packets = queue_->receive();
  ASSERT_EQ(packets.size(), 1U);
  ASSERT_EQ(text_of(packets[0]), "short");
  const policy::Address own = *policy::Address::parse("127.0.0.1");
  const std::string longer(1200, 'l');
  queue_->accept(packets[0].id, 0, udp_packet(own, own, 1, kPort, longer));
  queue_->flush();
  ASSERT_TRUE(readable(receiver.get()));
  EXPECT_EQ(received(receiver), longer);
  EXPECT_EQ(numbers("priorities"), std::vector<std::uint32_t>{0});
}

TEST_F(QueueTest, VerdictsActInTheOrderInWhichTheyWereGiven) {
  queue_output();
  bind();
  const Fd receiver = bound(AF_INET, SOCK_DGRAM, kPort);
  for (const char* text : {"a", "b", "c", "d"}) {
    send(text);
  }
  const auto packets = queue_->receive();
  ASSERT_EQ(packets.size(), 4U);
  EXPECT_EQ(text_of(packets[0]) + text_of(packets[3]), "ad") << "arrival order";
  queue_->accept(packets[3].id, 0);
  queue_->accept(packets[0].id, 0);
  queue_->drop(packets[1].id);
  queue_->accept(packets[2].id, 0);
  EXPECT_FALSE(readable(receiver.get(), 0)) << "not before flush()";
  queue_->flush();
  EXPECT_EQ(all_received(receiver), "dac");
}

TEST_F(QueueTest, VerdictsThatNeedSeveralMessagesStayInOrder) {
  queue_output();
  bind();
  const Fd receiver = bound(AF_INET, SOCK_DGRAM, kPort);
  const policy::Address own = *policy::Address::parse("127.0.0.1");
  constexpr std::size_t kCount = 70;
  const std::string filling(1500, 'f');
  for (std::size_t i = 0; i < kCount; i++) {
    send(static_cast<char>('0' + i) + filling);
  }
  std::string order;
  std::size_t batches = 0;
  for (auto packets = queue_->receive(); !packets.empty(); packets = queue_->receive()) {
    EXPECT_LE(packets.size(), Queue::kBatch);
    batches++;
    for (const QueuedPacket& packet : packets) {
      queue_->accept(packet.id, 0,
                     udp_packet(own, own, 1, kPort,
                                text_of(packet)));  // the queued one has an incomplete checksum
    }
    queue_->flush();
    for (std::string text = received(receiver); !text.empty(); text = received(receiver)) {
      EXPECT_EQ(text.size(), filling.size() + 1);
      order += text[0];
    }
  }
  EXPECT_EQ(batches, 2U);
  EXPECT_EQ(order.size(), kCount);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST_F(QueueTest, WhatTheQueueHasNoRoomForIsDroppedAndCounted) {
  queue_output();
  bind(3);
  const Fd receiver = bound(AF_INET, SOCK_DGRAM, kPort);
  for (const char* text : {"a", "b", "c", "d", "e"}) {
    send(text);
  }
  const auto packets = queue_->receive();
  ASSERT_EQ(packets.size(), 3U);
  for (const QueuedPacket& packet : packets) {
    queue_->accept(packet.id, 0);
  }
  queue_->flush();
  EXPECT_EQ(all_received(receiver), "abc") << "no fail-open";
  EXPECT_EQ(queue_->lost(), 2U);
}

TEST_F(QueueTest, WhatWaitsIsCounted) {
  queue_output();
  auto counters = QueueCounters::open();
  ASSERT_TRUE(counters) << counters.error().text();
  EXPECT_TRUE(counters->read().empty()) << "no queue is bound";
  bind();
  for (const char* text : {"1", "2", "3"}) {
    send(text);
  }
  auto now = counters->read();
  ASSERT_EQ(now.size(), 1U);
  EXPECT_EQ(now[0].number, kNumber);
  EXPECT_EQ(now[0].waiting, 3U);
  EXPECT_EQ(now[0].dropped, 0U);
  for (const QueuedPacket& packet : queue_->receive()) {
    queue_->drop(packet.id);
  }
  queue_->flush();
  now = counters->read();
  ASSERT_EQ(now.size(), 1U);
  EXPECT_EQ(now[0].waiting, 0U);
}

TEST_F(QueueTest, NothingPassesWithoutAListener) {
  queue_output();
  const Fd receiver = bound(AF_INET, SOCK_DGRAM, kPort);
  send("before");
  EXPECT_EQ(received(receiver), "");
  bind();
  send("waits");
  queue_.reset();
  EXPECT_EQ(received(receiver), "") << "packets that wait are dropped with their queue";
  send("after");
  EXPECT_EQ(received(receiver), "");
}

TEST_F(QueueTest, ASegmentationOffloadPacketComesWhole) {
  bring_lo_up(1500);
  const Fd listener = bound(AF_INET, SOCK_STREAM, kPort);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  const Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const Endpoint to = loopback(AF_INET, kPort);
  ASSERT_EQ(::connect(client.get(), to.get(), to.size), 0);
  const Fd server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  queue_output();
  bind();
  const std::string sent(8000, 's');
  ASSERT_EQ(::send(client.get(), sent.data(), sent.size(), 0), static_cast<ssize_t>(sent.size()));
  std::size_t longest = 0;
  std::string got;
  while (got.size() < sent.size() && readable(queue_->fd())) {
    for (const QueuedPacket& packet : queue_->receive()) {
      longest = std::max(longest, packet.length);
      EXPECT_EQ(packet.bytes.size(), std::min(packet.length, QueueSize{}.copied));
      queue_->accept(packet.id, 0);
    }
    queue_->flush();
    got += received(server);
  }
  EXPECT_EQ(got, sent);
  EXPECT_GT(longest, QueueSize{}.copied);
}

TEST_F(QueueTest, AVerdictOnAPacketThatIsGoneStopsNoOther) {
  queue_output();
  bind();
  const Fd receiver = bound(AF_INET, SOCK_DGRAM, kPort);
  send("a");
  const auto packets = queue_->receive();
  ASSERT_EQ(packets.size(), 1U);
  const std::uint32_t id = packets[0].id;
  queue_->accept(id + 1000, 0);
  queue_->accept(id, 0);
  queue_->accept(id, 0);
  queue_->flush();
  EXPECT_EQ(received(receiver), "a");
  EXPECT_TRUE(queue_->receive().empty()) << "an error message is not a packet";
  send("b");
  ASSERT_EQ(queue_->receive().size(), 1U);
  EXPECT_EQ(queue_->lost(), 0U);
}

TEST_F(QueueTest, OneProgramHasIt) {
  bind();
  const auto other = Queue::bind(kNumber, 1);
  ASSERT_FALSE(other);
  EXPECT_NE(other.error().message.find("NFQUEUE 11 is in use by another program"),
            std::string::npos)
      << other.error().message;
  queue_.reset();
  EXPECT_TRUE(Queue::bind(kNumber, 1));
}

}  // namespace
}  // namespace trireme::kernel
