// SPDX-License-Identifier: Apache-2.0
// Rate limits with a share per owner, and the summary of log lines that were left out.
#include <gtest/gtest.h>

#include "trireme/base/log_shares.hpp"
#include "trireme/base/rate_shares.hpp"

namespace trireme {
namespace {

using namespace std::chrono_literals;

constexpr RateShares::Limits kLimits = {.each = {.burst = 5, .per_second = 1},
                                        .together = {.burst = 10, .per_second = 2},
                                        .reserve = {.burst = 1, .per_second = 0.1},
                                        .owners = 4};

int take(RateShares& shares, std::string_view owner, int count, RateShares::Clock::time_point now) {
  int taken = 0;
  for (int i = 0; i < count; ++i) {
    taken += shares.take(owner, now) ? 1 : 0;
  }
  return taken;
}

TEST(RateShares, AnOwnerGetsItsBurstAndThenItsRate) {
  RateShares shares(kLimits);
  const RateShares::Clock::time_point start{1h};
  EXPECT_EQ(take(shares, "a", 100, start), 5);
  EXPECT_EQ(take(shares, "a", 100, start + 500ms), 0);
  EXPECT_EQ(take(shares, "a", 100, start + 2s), 2);
  EXPECT_EQ(take(shares, "b", 100, start + 2s), 5) << "another owner has its own share";
  EXPECT_EQ(take(shares, "a", 100, start + 1h), 5) << "no more than a burst, however long it waits";
}

TEST(RateShares, ManyLeaveEveryOwnerItsReserve) {
  RateShares shares(kLimits);
  const RateShares::Clock::time_point start{1h};
  EXPECT_EQ(take(shares, "a", 100, start) + take(shares, "b", 100, start), 10);
  EXPECT_EQ(take(shares, "c", 100, start), 1);
  EXPECT_EQ(take(shares, "c", 100, start + 1ms), 0);
}

TEST(RateShares, RemembersABoundedNumberAndForgetsTheIdle) {
  RateShares shares(kLimits);
  RateShares::Clock::time_point now{1h};
  int taken = 0;
  for (int i = 0; i < 1000; ++i) {
    taken += take(shares, std::to_string(i), 1, now);
  }
  EXPECT_LE(shares.owners(), 5U);
  EXPECT_LE(taken, 10 + 5) << "owners beyond the limit share one bucket";
  now += 1h;
  EXPECT_EQ(take(shares, "new", 1, now), 1);
  EXPECT_LE(shares.owners(), 2U);
}

TEST(RateShares, AClockThatStandsGivesNothing) {
  RateShares shares(kLimits);
  const RateShares::Clock::time_point start{1h};
  EXPECT_EQ(take(shares, "a", 100, start), 5);
  EXPECT_EQ(take(shares, "a", 100, start - 1s), 0);
}

TEST(LogShares, CountsWhatItLeavesOutByOwner) {
  LogShares shares(kLimits);
  const LogShares::Clock::time_point now{1h};
  EXPECT_EQ(shares.take_summary(), "");
  for (int i = 0; i < 105; ++i) {
    std::ignore = shares.admit("uid 1000", now);
  }
  for (int i = 0; i < 6; ++i) {
    std::ignore = shares.admit("workload web\n", now);
  }
  EXPECT_EQ(shares.left_out(), 101U);
  EXPECT_EQ(shares.take_summary(),
            "rate limit: 101 log lines left out: 100 for uid 1000, 1 for workload web?");
  EXPECT_EQ(shares.take_summary(), "") << "reported once";
  EXPECT_EQ(shares.left_out(), 101U);
}

/// Without the limit on all reserves, a sender with forged addresses could log a line per address.
TEST(LogShares, OwnersThatAreMadeUpDoNotMultiplyTheReserve) {
  LogShares shares;
  const LogShares::Clock::time_point start{1h};
  int admitted = 0;
  for (int second = 0; second < 60; second++) {
    for (int i = 0; i < 2000; i++) {
      const std::string owner = std::to_string(second % 2 * 2000 + i);
      admitted += shares.admit(owner, start + std::chrono::seconds(second)) ? 1 : 0;
    }
  }
  EXPECT_LE(admitted, 200 + 40 + 25 * 60);
  EXPECT_GE(admitted, 25 * 59);
}

TEST(LogShares, ASummaryIsShortHoweverManyThereAre) {
  LogShares shares({.each = {}, .together = {}, .reserve = {}, .owners = 16});
  for (int i = 0; i < 10'000; ++i) {
    std::ignore = shares.admit("address " + std::to_string(i));
  }
  const std::string summary = shares.take_summary();
  EXPECT_NE(summary.find("10000 log lines"), std::string::npos) << summary;
  EXPECT_NE(summary.find("9997 for others"), std::string::npos) << summary;
  EXPECT_LT(summary.size(), 200U);
}

TEST(LogShares, WhatOthersWroteFitsALine) {
  EXPECT_EQ(loggable("app=web"), "app=web");
  EXPECT_EQ(loggable("a\nb\tc\x1b[31m\xc3\xbc"), "a?b?c?[31m??");
  EXPECT_EQ(loggable(std::string(300, 'x')), std::string(300, 'x'));
  EXPECT_EQ(loggable(std::string(301, 'x')), std::string(297, 'x') + "...");
}

}  // namespace
}  // namespace trireme
