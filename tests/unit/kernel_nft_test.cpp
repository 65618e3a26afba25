// SPDX-License-Identifier: Apache-2.0
// nf_tables transactions in a network namespace that the test creates. Needs root.
#include "trireme/kernel/nft.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>
// These kernel headers must come after netinet/in.h.
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>

#include <algorithm>

namespace trireme::kernel {
namespace {

constexpr const char* kTable = "trireme_unit";

NftSet numbers() {
  return {.name = "numbers", .key_types = {SetType::mark}, .data_types = {}};
}

std::vector<NftElement> elements(std::uint32_t count) {
  std::vector<NftElement> list;
  for (std::uint32_t i = 0; i < count; i++) {
    list.push_back({.key = NftBytes::u32(i)});
  }
  return list;
}

TEST(NftBytes, PadToRegisters) {
  const std::vector<std::uint8_t> expected = {6, 0, 0, 0, 0x15, 0x38, 0, 0};
  const NftBytes bytes = NftBytes().add_u8(6).add_be16(5432);
  EXPECT_TRUE(std::ranges::equal(bytes.view(), expected));
  EXPECT_EQ(NftBytes::u8(6).size(), 1U);
  EXPECT_EQ(NftBytes::u64(1).size(), 8U);
  EXPECT_TRUE(NftBytes::twice(7) == NftBytes::u32(7).add_u32(7));
  EXPECT_FALSE(NftBytes::u32(7) == NftBytes::u32(8));
  EXPECT_FALSE(NftBytes::u32(7) == NftBytes::twice(7));
}

class NftTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
    if (::unshare(CLONE_NEWNET) != 0) {
      GTEST_SKIP() << "cannot make a network namespace";
    }
    auto socket = NftSocket::open();
    ASSERT_TRUE(socket) << socket.error().text();
    socket_ = std::make_unique<NftSocket>(std::move(*socket));
  }
  Status commit(NftBatch&& batch) { return socket_->commit(std::move(batch)); }
  std::size_t count(const std::string& set) {
    return socket_->keys(kTable, set).value_or(std::vector<std::vector<std::uint8_t>>{}).size();
  }
  void with_set() {
    NftBatch batch(kTable);
    batch.add_table();
    batch.add_set(numbers());
    ASSERT_TRUE(commit(std::move(batch)));
  }

  std::unique_ptr<NftSocket> socket_;
};

TEST_F(NftTest, TablesComeAndGo) {
  EXPECT_EQ(socket_->table_exists(kTable), false);
  NftBatch batch(kTable);
  EXPECT_TRUE(batch.empty());
  batch.add_table("with a comment");
  batch.add_table();  // no error if it exists
  EXPECT_FALSE(batch.empty());
  ASSERT_TRUE(commit(std::move(batch)));
  EXPECT_EQ(socket_->table_exists(kTable), true);
  EXPECT_EQ(socket_->table_exists("another"), false);
  NftBatch removal(kTable);
  removal.delete_table();
  ASSERT_TRUE(commit(std::move(removal)));
  EXPECT_EQ(socket_->table_exists(kTable), false);
  NftBatch again(kTable);
  again.delete_table();
  EXPECT_FALSE(commit(std::move(again))) << "there is no such table";
  EXPECT_TRUE(commit(NftBatch(kTable))) << "nothing to do";
}

TEST_F(NftTest, ABatchIsAllOrNothing) {
  NftBatch batch(kTable);
  batch.add_table();
  batch.add_set(numbers());
  batch.add_elements(numbers(), elements(3));
  batch.delete_elements(numbers(), elements(4));  // one that is not in the set
  const Status refused = commit(std::move(batch));
  ASSERT_FALSE(refused);
  EXPECT_EQ(socket_->table_exists(kTable), false);

  with_set();
  NftBatch half(kTable);
  half.add_elements(numbers(), elements(3));
  half.add_rule("no_such_chain", NftRule());
  EXPECT_FALSE(commit(std::move(half)));
  EXPECT_EQ(count("numbers"), 0U);
  EXPECT_FALSE(socket_->keys(kTable, "no_such_set"));
}

TEST_F(NftTest, AnErrorIsNotTakenForTheNextAnswer) {
  with_set();
  for (int i = 0; i < 3; i++) {
    NftBatch bad(kTable);
    bad.delete_elements(numbers(), elements(500));
    EXPECT_FALSE(commit(std::move(bad)));
    NftBatch good(kTable);
    good.flush_set(numbers());
    good.add_elements(numbers(), elements(2));
    EXPECT_TRUE(commit(std::move(good)));
    EXPECT_EQ(count("numbers"), 2U);
  }
}

TEST_F(NftTest, ManyElementsAreOneTransaction) {
  with_set();
  constexpr std::uint32_t kMany = 50'000;
  NftBatch batch(kTable);
  batch.add_elements(numbers(), elements(kMany));
  const Status added = commit(std::move(batch));
  ASSERT_TRUE(added) << added.error().text();
  // Not counted with a dump, which repeats and omits elements while the kernel resizes the set.
  NftBatch removal(kTable);
  removal.delete_elements(numbers(), elements(kMany));
  ASSERT_TRUE(commit(std::move(removal))) << "all elements were in the set";
  NftBatch again(kTable);
  again.delete_elements(numbers(), elements(1));
  EXPECT_FALSE(commit(std::move(again))) << "no element is left";
}

TEST_F(NftTest, RemovalAndAdditionOfAKeyInOneBatch) {
  with_set();
  NftBatch first(kTable);
  first.add_elements(numbers(), elements(1));
  ASSERT_TRUE(commit(std::move(first)));
  NftBatch batch(kTable);
  batch.delete_elements(numbers(), elements(1));
  batch.add_elements(numbers(), elements(1));
  EXPECT_TRUE(commit(std::move(batch)));
  EXPECT_EQ(count("numbers"), 1U);
}

TEST_F(NftTest, AnExistingMapElementKeepsItsData) {
  NftSet map = numbers();
  map.name = "map";
  map.data_types = {SetType::mark, SetType::mark};
  map.data_size = 8;
  NftBatch batch(kTable);
  batch.add_table();
  batch.add_set(map);
  const auto write = [&map](NftBatch& to, std::uint32_t value) {
    const std::array list = {NftElement{.key = NftBytes::u32(1), .data = NftBytes::twice(value)}};
    to.add_elements(map, list);
  };
  write(batch, 1);
  ASSERT_TRUE(commit(std::move(batch)));
  NftBatch other(kTable);
  write(other, 2);
  EXPECT_FALSE(commit(std::move(other))) << "a key has one value";
}

TEST_F(NftTest, IntervalsKnowTheirEdges) {
  NftSet ports{.name = "ports",
               .key_types = {SetType::inet_proto, SetType::inet_service},
               .key_size = 8,
               .data_types = {}};
  ports.interval = true;
  NftSet addresses{.name = "addresses", .key_types = {SetType::ipv4_addr}, .data_types = {}};
  addresses.interval = true;
  NftBatch batch(kTable);
  batch.add_table();
  batch.add_set(ports);
  batch.add_set(addresses);
  const auto range = [](std::uint16_t first, std::uint16_t last) {
    return NftElement{.key = NftBytes().add_u8(6).add_be16(first),
                      .key_end = NftBytes().add_u8(6).add_be16(last)};
  };
  const std::array two = {range(1, 1023), range(1024, 65535)};
  batch.add_elements(ports, two);
  const std::array<std::uint8_t, 4> ten = {10, 0, 0, 0};
  const std::array<std::uint8_t, 4> eleven = {11, 0, 0, 0};
  const std::array network = {NftElement{.key = NftBytes().add_raw(ten)},
                              NftElement{.key = NftBytes().add_raw(eleven), .interval_end = true}};
  batch.add_elements(addresses, network);
  ASSERT_TRUE(commit(std::move(batch)));
  EXPECT_EQ(count("ports"), 2U);
  NftBatch overlap(kTable);
  const std::array third = {range(1000, 2000)};
  overlap.add_elements(ports, third);
  EXPECT_FALSE(commit(std::move(overlap))) << "a port has one value";
}

TEST_F(NftTest, RulesAreChecked) {
  NftBatch batch(kTable);
  batch.add_table();
  batch.add_chain("input", NftBaseChain{NF_INET_LOCAL_IN, 0});
  batch.add_chain("end");
  batch.add_set(numbers());
  NftRule rule;
  rule.meta(NFT_META_MARK, 0).in("numbers", 0).go_to("end").comment(std::string(120, 'c'));
  batch.add_rule("input", rule);
  ASSERT_TRUE(commit(std::move(batch)));
  NftBatch wrong(kTable);
  NftRule lost;
  lost.go_to("nowhere");
  wrong.add_rule("input", lost);
  EXPECT_FALSE(commit(std::move(wrong)));
  NftBatch loop(kTable);
  NftRule back;
  back.go_to("end");
  loop.add_rule("end", back);
  EXPECT_FALSE(commit(std::move(loop)));
}

TEST_F(NftTest, AnyNumberOfElementsWithTheLongestCommentsIsWritten) {
  NftSet timed = numbers();
  timed.timeouts = true;
  for (const std::uint32_t count :
       {200U, 1000U, 1500U, 2000U}) {  // the last message ends within a page, or crosses its end
    NftBatch batch(kTable);
    batch.add_table();
    batch.delete_table();
    batch.add_table();
    batch.add_set(timed);
    std::vector<NftElement> list;
    for (std::uint32_t i = 0; i < count; i++) {
      list.push_back({.key = NftBytes::u32(i),
                      .timeout = std::chrono::minutes(1),
                      .comment = std::string(240, 'c')});
    }
    batch.add_elements(timed, list);
    const Status committed = commit(std::move(batch));
    ASSERT_TRUE(committed) << committed.error().text() << " with " << count;
    EXPECT_EQ(socket_->list(kTable, "numbers").value().size(), count);
  }
}

TEST_F(NftTest, ElementsHaveTimeoutsAndComments) {
  using std::chrono::milliseconds;
  EXPECT_TRUE(socket_->list("nobodys", "numbers").value().empty()) << "there is no such set";
  NftSet timed = numbers();
  timed.timeouts = true;
  NftBatch batch(kTable);
  batch.add_table();
  batch.add_set(timed);
  const std::array list = {NftElement{.key = NftBytes::u32(1),
                                      .timeout = milliseconds(60'000),
                                      .comment = std::string(240, 'c')},
                           NftElement{.key = NftBytes::u32(2)},
                           NftElement{.key = NftBytes::u32(3), .timeout = milliseconds(1)}};
  batch.add_elements(timed, list);
  ASSERT_TRUE(commit(std::move(batch)));
  std::vector<NftListed> listed;
  do {
    listed = socket_->list(kTable, "numbers").value();
  } while (listed.size() > 2);  // the third one expires
  std::ranges::sort(listed, {}, &NftListed::key);
  ASSERT_EQ(listed.size(), 2U);
  EXPECT_EQ(listed[0].comment, std::string(240, 'c'));
  EXPECT_GT(listed[0].remaining, milliseconds(50'000));
  EXPECT_LE(listed[0].remaining, milliseconds(60'000));
  EXPECT_EQ(listed[1].comment, "");
  EXPECT_EQ(listed[1].remaining, milliseconds(0));
  // Replaced with another timeout, in one transaction.
  NftBatch again(kTable);
  again.delete_elements(timed, std::array{NftElement{.key = NftBytes::u32(1)}});
  again.add_elements(
      timed, std::array{NftElement{
                 .key = NftBytes::u32(1), .timeout = milliseconds(600'000), .comment = "x"}});
  ASSERT_TRUE(commit(std::move(again)));
  EXPECT_EQ(socket_->list(kTable, "numbers").value().size(), 2U);
}

}  // namespace
}  // namespace trireme::kernel
