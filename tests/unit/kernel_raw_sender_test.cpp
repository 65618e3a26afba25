// SPDX-License-Identifier: Apache-2.0
// Raw packets in a network namespace that the test creates: their device, mark and priority. Needs
// root.
#include "trireme/kernel/raw_sender.hpp"

#include "kernel_support.hpp"

namespace trireme::kernel {
namespace {

constexpr std::uint16_t kPort = 5454;
constexpr std::uint32_t kPriority = 0x03000007;
constexpr std::uint32_t kRouted = 5;  // the mark of the second routing table

class RawSenderTest : public NamespaceTest {
 protected:
  /// Rules on OUTPUT record devices, marks and priorities of packets to kPort.
  void SetUp() override {
    NamespaceTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    NftBatch batch(kTestTable);
    batch.add_table();
    batch.add_chain("output", NftBaseChain{NF_INET_LOCAL_OUT, 0});
    const std::array<std::uint8_t, 2> port = {kPort >> 8U, kPort & 0xffU};
    for (const auto& [key, set] : {std::pair{NFT_META_OIF, "devices"},
                                   {NFT_META_MARK, "marks"},
                                   {NFT_META_PRIORITY, "priorities"}}) {
      batch.add_set(seen(set));
      NftRule rule;
      rule.payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 0)
          .equal(0, NftBytes().add_raw(port))
          .meta(key, 1)
          .add_to(set, 1);
      batch.add_rule("output", rule);
    }
    commit(std::move(batch));
    auto sender = RawSender::open(kPriority);
    ASSERT_TRUE(sender) << sender.error().text();
    sender_ = std::make_unique<RawSender>(std::move(*sender));
  }
  /// Adds two devices: routes lead to the first one, those for the mark kRouted to the second one.
  static void make_devices() {
    ASSERT_EQ(
        run("ip link add d0 type veth peer p0 && ip link add d1 type veth peer p1 && "
            "for d in d0 p0 d1 p1; do ip link set $d up; done && "
            "ip addr add 10.9.0.1/24 dev d0 && ip addr add 10.8.0.1/24 dev d1 && "
            "ip -6 addr add 2001:db8::1/64 dev d0 nodad && ip -6 addr add 2001:db8:1::1/64 dev d1 "
            "nodad && "
            "ip -6 route add 2001:db8::/64 dev d1 metric 2000 && "
            "ip rule add fwmark 5 table 100 && ip route add 10.9.0.0/24 dev d1 table 100 && "
            "ip -6 rule add fwmark 5 table 100 && ip -6 route add 2001:db8::/64 dev d1 table 100"),
        0);
  }
  Status send(const char* source, const char* destination, std::uint32_t device,
              std::uint32_t mark) {
    const policy::Address to = *policy::Address::parse(destination);
    return sender_->send(udp_packet(*policy::Address::parse(source), to, 1, kPort, "raw"), to,
                         device, mark);
  }
  std::vector<std::uint32_t> devices() {
    auto list = numbers("devices");
    NftBatch batch(kTestTable);
    batch.flush_set(seen("devices"));
    EXPECT_TRUE(nft_->commit(std::move(batch)));
    return list;
  }

  std::unique_ptr<RawSender> sender_;
};

TEST_F(RawSenderTest, APacketArrivesWithItsMarkAndPriority) {
  for (const auto& [family, own] : {std::pair{AF_INET, "127.0.0.1"}, {AF_INET6, "::1"}}) {
    const Fd receiver = bound(family, SOCK_DGRAM, kPort);
    const Status sent = send(own, own, 0, 0x77);
    ASSERT_TRUE(sent) << sent.error().text();
    ASSERT_TRUE(readable(receiver.get()));
    EXPECT_EQ(received(receiver), "raw");
    EXPECT_EQ(numbers("marks"), std::vector<std::uint32_t>{0x77});
    EXPECT_EQ(numbers("priorities"), std::vector<std::uint32_t>{kPriority});
  }
}

TEST_F(RawSenderTest, MarkAndDeviceChooseTheWay) {
  make_devices();
  const std::uint32_t first = ::if_nametoindex("d0");
  const std::uint32_t second = ::if_nametoindex("d1");
  for (const auto& [source, destination] :
       {std::pair{"10.9.0.1", "10.9.0.2"}, {"2001:db8::1", "2001:db8::2"}}) {
    ASSERT_TRUE(send(source, destination, 0, 0));
    EXPECT_EQ(devices(), std::vector<std::uint32_t>{first});
    ASSERT_TRUE(send(source, destination, 0, kRouted));
    EXPECT_EQ(devices(), std::vector<std::uint32_t>{second}) << "routed by the mark";
    ASSERT_TRUE(send(source, destination, second, 0));
    EXPECT_EQ(devices(), std::vector<std::uint32_t>{second}) << "sent through the given device";
    ASSERT_TRUE(send(source, destination, 0, 0));
    EXPECT_EQ(devices(), std::vector<std::uint32_t>{first}) << "neither stays";
  }
}

TEST_F(RawSenderTest, ALinkLocalDestinationIsOnTheDevice) {
  make_devices();
  const std::uint32_t second = ::if_nametoindex("d1");
  const Status sent = send("2001:db8:1::1", "fe80::99", second, 0);
  ASSERT_TRUE(sent) << sent.error().text();
  EXPECT_EQ(devices(), std::vector<std::uint32_t>{second});
}

TEST_F(RawSenderTest, WhatCannotBeSentIsAnError) {
  EXPECT_FALSE(send("10.9.0.1", "10.9.0.2", 0, 0)) << "no route";
  EXPECT_FALSE(send("127.0.0.1", "127.0.0.1", 9999, 0)) << "no such device";
  EXPECT_FALSE(send("::1", "::1", 9999, 0));
  EXPECT_TRUE(devices().empty());
}

}  // namespace
}  // namespace trireme::kernel
