// SPDX-License-Identifier: Apache-2.0
// The shares of users in the workload numbers, and that no user can take those of others.
#include <gtest/gtest.h>

#include <set>

#include "trireme/systemd/launch_shares.hpp"

namespace trireme::systemd {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class Shares : public ::testing::Test {
 protected:
  void launch(std::uint32_t uid) {
    EXPECT_TRUE(shares_.permits(uid, now_));
    held_.insert(++last_);
    shares_.launched(uid, last_);
  }

  std::set<std::uint64_t> held_;
  std::uint64_t last_ = 0;
  bool scarce_ = false;
  std::size_t asked_ = 0;
  LaunchShares::Clock::time_point now_{seconds(100)};
  LaunchShares shares_{{.is_held =
                            [this](std::uint64_t id) {
                              asked_++;
                              return held_.contains(id);
                            },
                        .is_scarce = [this] { return scarce_; }},
                       4};
};

TEST_F(Shares, NobodyHasMoreThanTheirs) {
  for (int i = 0; i < 4; i++) {
    launch(1000);
  }
  EXPECT_EQ(asked_, 0U) << "a user within its share causes no queries";
  const Status refused = shares_.permits(1000, now_);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("launched 4 commands"), std::string::npos);
  launch(1001);
}

TEST_F(Shares, WhatHasGoneIsFreeAgain) {
  for (int i = 0; i < 4; i++) {
    launch(1000);
  }
  EXPECT_FALSE(shares_.permits(1000, now_));
  held_.erase(2);
  EXPECT_FALSE(shares_.permits(1000, now_)) << "checked at most once a second";
  EXPECT_EQ(asked_, 4U);
  now_ += milliseconds(1001);
  launch(1000);
  now_ += milliseconds(1001);
  EXPECT_FALSE(shares_.permits(1000, now_));
}

TEST_F(Shares, HalfOfTheRoomIsNobodysToLaunchIn) {
  scarce_ = true;
  EXPECT_FALSE(shares_.permits(1000, now_));
  scarce_ = false;
  launch(1000);
}

}  // namespace
}  // namespace trireme::systemd
