// SPDX-License-Identifier: Apache-2.0
// The rules of the token path: numbers in priorities and labels, one queue per flow, TCP options.
// Needs root.
#include <algorithm>

#include "kernel_support.hpp"
#include "trireme/kernel/conntrack.hpp"
#include "trireme/kernel/raw_sender.hpp"

namespace trireme::kernel {
namespace {

constexpr std::uint32_t kNumber = 0x123456;
constexpr std::uint32_t kComplement = 0xedcba9;
constexpr std::uint32_t kFlags = 0x5;
constexpr std::uint32_t kWhole = 0xffffff;
constexpr std::uint16_t kPort = 700;
constexpr std::uint32_t kLabel = 8;

NftSet by_mark(const std::string& name) {
  return {.name = name,
          .key_types = {SetType::mark},
          .data_types = {SetType::mark, SetType::mark},
          .data_size = 8};
}

class NftTokenTest : public NamespaceTest {
 protected:
  void output(NftRule& rule, const std::vector<NftSet>& sets) {
    NftBatch batch(kTestTable);
    batch.add_table();
    batch.add_set(by_mark("known"));
    const std::array known = {
        NftElement{.key = NftBytes::u32(0), .data = NftBytes::twice(kNumber)}};
    batch.add_elements(by_mark("known"), known);
    for (const NftSet& set : sets) {
      batch.add_set(set);
    }
    batch.add_chain("output", NftBaseChain{NF_INET_LOCAL_OUT, 0});
    batch.add_rule("output", rule);
    commit(std::move(batch));
  }
  /// Sends a packet whose priority contains more than the number.
  static void talk() {
    const Fd receiver = bound(AF_INET, SOCK_DGRAM, kPort);
    const Fd sender(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const std::uint32_t priority = 0xaa000000 | kNumber;
    ASSERT_EQ(::setsockopt(sender.get(), SOL_SOCKET, SO_PRIORITY, &priority, sizeof priority), 0);
    const Endpoint to = loopback(AF_INET, kPort);
    ASSERT_EQ(::sendto(sender.get(), "x", 1, 0, to.get(), to.size), 1);
    ASSERT_EQ(received(receiver), "x");
  }
  static std::array<std::uint32_t, 4> label() {
    auto conntrack = Conntrack::open();
    std::array<std::uint32_t, 4> result{};
    EXPECT_TRUE(conntrack &&
                conntrack->each([&](const TrackedFlow& flow) { result = flow.label; }));
    return result;
  }
};

constexpr std::array<std::uint32_t, 4> kSource = {kFlags | kComplement << 8U, kNumber, 0, 0};
constexpr std::array<std::uint32_t, 4> kDestination = {kFlags, 0, kNumber, kComplement};

TEST_F(NftTokenTest, SourceLabelFromAMap) {
  NftRule rule;
  rule.meta(NFT_META_MARK, 0).map("known", 0, kLabel + 1).map("known", 0, kLabel);
  rule.shift_left(kLabel, 8).mask_toggle(kLabel, NftBytes::u32(kWhole << 8U),
                                         NftBytes::u32(kWhole << 8U | kFlags));
  rule.immediate(kLabel + 2, NftBytes::u64(0)).set_ct(NFT_CT_LABELS, kLabel);
  output(rule, {});
  talk();
  EXPECT_EQ(label(), kSource);
}

TEST_F(NftTokenTest, SourceLabelFromThePriority) {
  NftRule rule;
  rule.meta(NFT_META_PRIORITY, kLabel).shift_left(kLabel, 8);
  rule.mask_toggle(kLabel, NftBytes::u32(kWhole << 8U), NftBytes::u32(kWhole << 8U | kFlags));
  rule.meta(NFT_META_PRIORITY, kLabel + 1).mask(kLabel + 1, NftBytes::u32(kWhole));
  rule.immediate(kLabel + 2, NftBytes::u64(0)).set_ct(NFT_CT_LABELS, kLabel);
  output(rule, {});
  talk();
  EXPECT_EQ(label(), kSource);
}

TEST_F(NftTokenTest, DestinationLabelFromAMap) {
  NftRule rule;
  rule.meta(NFT_META_MARK, 0).map("known", 0, kLabel + 3);  // also in the register before it
  rule.mask_toggle(kLabel + 3, NftBytes::u32(kWhole), NftBytes::u32(kWhole));
  rule.immediate(kLabel, NftBytes::u32(kFlags).add_u32(0)).set_ct(NFT_CT_LABELS, kLabel);
  output(rule, {});
  talk();
  EXPECT_EQ(label(), kDestination);
}

TEST_F(NftTokenTest, DestinationLabelFromThePriority) {
  NftRule rule;
  rule.immediate(kLabel, NftBytes::u32(kFlags).add_u32(0));
  rule.meta(NFT_META_PRIORITY, kLabel + 2).mask(kLabel + 2, NftBytes::u32(kWhole));
  rule.meta(NFT_META_PRIORITY, kLabel + 3)
      .mask_toggle(kLabel + 3, NftBytes::u32(kWhole), NftBytes::u32(kWhole));
  rule.set_ct(NFT_CT_LABELS, kLabel);
  output(rule, {});
  talk();
  EXPECT_EQ(label(), kDestination);
}

TEST_F(NftTokenTest, ThePriorityIsMaskedToggledAndWrittenBack) {
  NftRule rule;
  rule.meta(NFT_META_PRIORITY, 0)
      .mask_toggle(0, NftBytes::u32(kWhole), NftBytes::u32(0x01000000))
      .set_meta(NFT_META_PRIORITY, 0);
  rule.meta(NFT_META_PRIORITY, 1).add_to("priorities", 1);
  output(rule, {seen("priorities")});
  talk();
  EXPECT_EQ(numbers("priorities"), std::vector<std::uint32_t>{0x01000000 | kNumber});
}

TEST_F(NftTokenTest, BothDirectionsOfAFlowHashAlike) {
  NftRule rule;
  rule.meta(NFT_META_L4PROTO, 1)
      .equal(1, NftBytes::u8(IPPROTO_UDP))
      .symmetric_hash(0, 1U << 30U)
      .add_to("hashes", 0);
  output(rule, {seen("hashes")});
  std::size_t flows = 0;
  for (const int family : {AF_INET, AF_INET6}) {
    for (const std::uint16_t port : {std::uint16_t{1}, std::uint16_t{2}, std::uint16_t{3}}) {
      const Fd one = bound(family, SOCK_DGRAM, kPort);
      const Fd other = bound(family, SOCK_DGRAM, port);
      const Endpoint to_one = loopback(family, kPort);
      const Endpoint to_other = loopback(family, port);
      ASSERT_EQ(::sendto(other.get(), "x", 1, 0, to_one.get(), to_one.size), 1);
      EXPECT_EQ(count("hashes"), flows + 1) << "the hash depends on ports";
      ASSERT_EQ(::sendto(one.get(), "x", 1, 0, to_other.get(), to_other.size), 1);
      EXPECT_EQ(count("hashes"), ++flows);
    }
  }
}

TEST_F(NftTokenTest, AHashChoosesAChainWithAQueue) {
  const auto mechanism = probe_queue();
  ASSERT_TRUE(mechanism) << mechanism.error().text();
  const NftSet queues{
      .name = "queues", .key_types = {SetType::mark}, .data_types = {SetType::verdict}};
  NftBatch batch(kTestTable);
  batch.add_table();
  batch.add_set(queues);
  batch.add_chain("output", NftBaseChain{NF_INET_LOCAL_OUT, 0});
  std::vector<NftElement> elements;
  std::vector<Queue> listeners;
  for (std::uint16_t i = 0; i < 4; i++) {
    const std::string chain = "queue_" + std::to_string(i);
    batch.add_chain(chain);
    NftRule rule;
    rule.queue(*mechanism, i);
    batch.add_rule(chain, rule);
    elements.push_back(
        {.key = NftBytes::u32(i), .verdict = NftVerdict{NftVerdict::Code::go_to, chain}});
    listeners.push_back(std::move(*Queue::bind(i, 100)));
  }
  batch.add_elements(queues, elements);
  NftRule rule;
  rule.symmetric_hash(0, 4).vmap("queues", 0);
  batch.add_rule("output", rule);
  commit(std::move(batch));
  const Fd sender(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  for (std::uint16_t port = 1; port <= 64; port++) {
    const Endpoint to = loopback(AF_INET, port);
    ASSERT_EQ(::sendto(sender.get(), "x", 1, 0, to.get(), to.size), 1);
  }
  std::size_t total = 0;
  for (Queue& queue : listeners) {
    const std::size_t got = queue.receive().size();
    EXPECT_GT(got, 0U) << "ports spread";
    total += got;
  }
  EXPECT_EQ(total, 64U);
}

/// A SYN without data to `port`. Unless `kind` is 0, with an option of that kind and `length`.
Packet segment(std::uint16_t port, std::uint8_t kind, std::uint8_t length) {
  Packet upper = {0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0};
  put16(upper, 2, port);
  if (kind != 0) {
    upper.insert(upper.end(), {1, 1, kind, length});
    upper.resize(20 + 2 + length);
    upper.resize((upper.size() + 3) / 4 * 4);
    upper[12] = static_cast<std::uint8_t>(upper.size() / 4 << 4U);
  }
  const policy::Address own = *policy::Address::parse("127.0.0.1");
  return ip_packet(own, own, IPPROTO_TCP, std::move(upper), 16);
}

TEST_F(NftTokenTest, ATcpOptionIsFoundAmongOthers) {
  NftRule rule;
  rule.tcp_option(253).payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 0).add_to("ports", 0);
  output(rule, {seen("ports", SetType::inet_service, 2)});
  const auto sender = RawSender::open(0);
  ASSERT_TRUE(sender) << sender.error().text();
  const policy::Address own = *policy::Address::parse("127.0.0.1");
  for (const auto& [port, kind] :
       {std::pair<std::uint16_t, std::uint8_t>{1, 0}, {2, 254}, {3, 253}}) {
    ASSERT_TRUE(sender->send(segment(port, kind, 20), own, 0, 0));
  }
  EXPECT_EQ(keys("ports"), (std::vector<std::vector<std::uint8_t>>{{0, 3}}));
}

}  // namespace
}  // namespace trireme::kernel
