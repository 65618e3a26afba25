// SPDX-License-Identifier: Apache-2.0
// Shares of owners in bounded resources: which owner loses entries, and that others keep theirs.
#include <gtest/gtest.h>

#include <map>
#include <random>

#include "../../src/handshake/held.hpp"
#include "../../src/handshake/shares.hpp"

namespace trireme::handshake {
namespace {

Owner remote(std::uint32_t address) {
  policy::Address result;
  for (unsigned byte = 0; byte < 4; byte++) {
    result.bytes.at(byte) = static_cast<std::uint8_t>(address >> (24U - 8U * byte));
  }
  return Owner::address(result);
}

TEST(Shares, TheLargestGivesWayItsLowestRankAndItsOldestFirst) {
  Shares shares(16, 1);
  EXPECT_EQ(shares.victim(), Shares::kNone);
  shares.add(0, Owner::workload(100), 2, 1);
  shares.add(1, Owner::workload(200), 0, 1);
  shares.add(2, Owner::workload(100), 1, 1);
  shares.add(3, Owner::workload(100), 1, 1);
  EXPECT_EQ(shares.victim(), 2U);
  EXPECT_EQ(shares.largest().owner, Owner::workload(100));
  EXPECT_EQ(shares.largest().holds, 3U);
  EXPECT_EQ(shares.largest().of, 4U);
  EXPECT_TRUE(shares.is_largest(Owner::workload(100)));
  EXPECT_FALSE(shares.is_largest(Owner::workload(200)));
  shares.move(2, 1);  // the newest of its rank now
  EXPECT_EQ(shares.victim(), 3U);
  shares.move(0, 0);
  EXPECT_EQ(shares.victim(), 0U);
  shares.remove(0);
  shares.remove(2);
  shares.remove(3);
  EXPECT_EQ(shares.victim(), 1U);
  shares.grow(1, 5);
  EXPECT_EQ(shares.total(), 6U);
  shares.remove(1);
  EXPECT_EQ(shares.total(), 0U);
  EXPECT_EQ(shares.victim(), Shares::kNone);
}

TEST(Shares, ManyRemoteHostsLeaveLocalWorkloadsTheirHalf) {
  constexpr std::uint32_t kRoom = 1024;
  Shares shares(kRoom, 7);
  Shares::Index next = 0;
  for (; next < 200; next++) {
    shares.add(next, Owner::workload(500), 2, 1);
  }
  for (; next < kRoom; next++) {
    shares.add(next, remote(next), 2, 1);
  }
  for (std::uint32_t i = 0; i < 100'000; i++) {
    const Shares::Index victim = shares.victim();
    ASSERT_GE(victim, 200U) << "although one workload is the largest owner";
    shares.remove(victim);
    shares.add(victim, remote(i * 2'654'435'761U), 2, 1);
  }
}

TEST(Shares, TheVictimIsAlwaysOfOneThatHasMost) {
  std::mt19937 random{3};
  Shares shares(256, 11);
  std::map<Shares::Index, std::pair<std::uint64_t, std::uint32_t>> model;  // owner, weight
  for (int i = 0; i < 50'000; i++) {
    const auto entry = static_cast<Shares::Index>(random() % 256);
    const auto known = model.find(entry);
    if (known == model.end()) {
      const std::uint64_t owner = 16 + random() % 6;
      const std::uint32_t weight = 1 + random() % 16;
      shares.add(entry, Owner::workload(static_cast<policy::Number>(owner)), random() % 3, weight);
      model[entry] = {owner, weight};
    } else if (random() % 2 == 0) {
      shares.remove(entry);
      model.erase(known);
    } else {
      shares.move(entry, random() % 3);
      shares.grow(entry, 1);
      known->second.second++;
    }
    std::map<std::uint64_t, std::uint32_t> weights;
    std::uint64_t sum = 0;
    for (const auto& [index, held] : model) {
      weights[held.first] += held.second;
      sum += held.second;
    }
    ASSERT_EQ(shares.total(), sum);
    if (model.empty()) {
      ASSERT_EQ(shares.victim(), Shares::kNone);
      continue;
    }
    const auto most =
        std::ranges::max_element(weights, {}, [](const auto& item) { return item.second; })->second;
    ASSERT_EQ(weights.at(model.at(shares.victim()).first), most);
    ASSERT_EQ(shares.largest().holds, most);
  }
}

TEST(Shares, OwnersHaveNames) {
  EXPECT_TRUE(Owner::workload(17).is_local());
  EXPECT_EQ(remote(0x0a000007).address_text(), "10.0.0.7");
  EXPECT_EQ(Owner::address(*policy::Address::parse("fd00:1:2:3:4::5")).address_text(),
            "fd00:1:2:3::/64");
  EXPECT_EQ(Owner::address(*policy::Address::parse("fd00:1:2:3::1")),
            Owner::address(*policy::Address::parse("fd00:1:2:3::2")));
}

TEST(Holding, AHolderOfManyMakesRoomForAnother) {
  Holding holding(2048, 5);
  std::vector<Held> held(2048);
  std::size_t dropped = 0;
  const auto drop = [&](std::uint32_t entry, const Holder& /*largest*/) {
    dropped += held[entry].count;
    holding.forget(entry, held[entry]);
  };
  std::uint32_t flow = 0;
  for (; flow < 100; flow++) {
    for (std::uint32_t packet = 0; packet < 20; packet++) {
      std::ignore = holding.add(flow, Owner::workload(100), held[flow], packet, 100, drop);
    }
    EXPECT_LE(held[flow].count, Held::kMost);
  }
  EXPECT_EQ(holding.largest().holds, Holding::kMost);
  EXPECT_EQ(dropped, 0U) << "the owner that holds everything does not evict its own";
  for (std::uint32_t i = 0; i < 60; i++, flow++) {
    EXPECT_TRUE(holding.add(flow, Owner::workload(200), held[flow], i, 100, drop)) << i;
  }
  EXPECT_GE(dropped, 60U);
  EXPECT_LE(dropped, 80U);
  for (std::uint32_t i = 100; i < 160; i++) {
    EXPECT_EQ(held[i].count, 1U) << "and the others keep theirs";
  }
}

TEST(Holding, LargeOnesTakeMoreRoom) {
  Holding holding(2048, 5);
  std::vector<Held> held(2048);
  const auto drop = [](std::uint32_t /*entry*/, const Holder& /*largest*/) { FAIL(); };
  std::size_t bytes = 0;
  for (std::uint32_t flow = 0; flow < 1'000; flow++) {
    if (holding.add(flow, Owner::workload(100), held[flow], 0, 60'000, drop)) {
      bytes += 60'000;
    }
  }
  EXPECT_LE(bytes, std::size_t{4} << 20U);
  EXPECT_GE(bytes, std::size_t{3} << 20U);
}

}  // namespace
}  // namespace trireme::handshake
