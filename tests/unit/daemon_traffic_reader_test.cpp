// SPDX-License-Identifier: Apache-2.0
// Whose sockets those of a cgroup are, and which network namespaces a reading begins with.
#include "../../src/daemon/traffic_reader.hpp"

#include <gmock/gmock.h>

namespace trireme::daemon {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr policy::Number kOuterNumber = abi::kFirstNumber;
constexpr policy::Number kOtherNumber = abi::kFirstNumber + 1;

class TrafficCgroups : public ::testing::Test {
 protected:
  CgroupNumbers numbers_{[this] {
    ++walks_;
    return tree_;
  }};
  std::vector<TrafficRequest::Member> members_ = {
      {.number = kOuterNumber,
       .path = "/web.scope",
       .cgroups = {10, 9},
       .network = 0,
       .labels = {}},
      {.number = kOtherNumber, .path = "/db.scope", .cgroups = {20}, .network = 0, .labels = {}}};
  CgroupNumbers::Paths tree_ = {{1, ""},
                                {10, "/web.scope"},
                                {11, "/web.scope/inner"},
                                {20, "/db.scope"},
                                {30, "/user.slice/shell"}};
  int walks_ = 0;
};

TEST_F(TrafficCgroups, ThoseOfWorkloadsNeedNoTree) {
  numbers_.use(members_, {10, 9, 20, 0});
  EXPECT_EQ(numbers_.find(10), kOuterNumber);
  EXPECT_EQ(numbers_.find(9), kOuterNumber) << "of an earlier run";
  EXPECT_EQ(numbers_.find(20), kOtherNumber);
  EXPECT_EQ(numbers_.find(0), std::nullopt);
  EXPECT_EQ(walks_, 0);
}

TEST_F(TrafficCgroups, TheNextOneAboveCounts) {
  numbers_.use(members_, {11, 30, 1});
  EXPECT_EQ(numbers_.find(11), kOuterNumber);
  EXPECT_EQ(numbers_.find(30), abi::kHost);
  EXPECT_EQ(numbers_.find(1), abi::kHost);
  EXPECT_EQ(walks_, 1);
  members_.pop_back();
  numbers_.use(members_, {11, 20, 30});
  EXPECT_EQ(numbers_.find(20), abi::kHost) << "its workload has ended";
  EXPECT_EQ(walks_, 1);
}

/// Sockets outlive their cgroups. However many: the tree is read for all of them once.
TEST_F(TrafficCgroups, AllThatAreGoneCostOneReadingOfTheTree) {
  std::unordered_set<std::uint64_t> cgroups = {10};
  for (std::uint64_t id = 1000; id < 2000; ++id) {
    cgroups.insert(id);
  }
  for (int reading = 0; reading < 3; ++reading) {
    numbers_.use(members_, cgroups);
    EXPECT_EQ(numbers_.find(1000), std::nullopt);
    EXPECT_EQ(numbers_.find(1999), std::nullopt);
  }
  EXPECT_EQ(walks_, 1);
  tree_.emplace(40, "/web.scope/new");
  cgroups.insert(40);
  numbers_.use(members_, cgroups);
  EXPECT_EQ(numbers_.find(40), kOuterNumber);
  EXPECT_EQ(walks_, 2);
}

TEST(TrafficTurns, AReadingBeginsWhereTheLastOneEnded) {
  NetworkTurns turns;
  EXPECT_THAT(turns.order({}), IsEmpty());
  EXPECT_THAT(turns.order({0, 5, 7, 9}), ElementsAre(0, 1, 2, 3));
  turns.end_before(7);
  EXPECT_THAT(turns.order({0, 5, 7, 9}), ElementsAre(0, 2, 3, 1)) << "the daemon's own is first";
  EXPECT_THAT(turns.order({0, 5, 8}), ElementsAre(0, 2, 1)) << "that one has gone";
  EXPECT_THAT(turns.order({0, 5}), ElementsAre(0, 1));
  turns.end_before(std::nullopt);
  EXPECT_THAT(turns.order({0, 5, 7, 9}), ElementsAre(0, 1, 2, 3));
}

}  // namespace
}  // namespace trireme::daemon
