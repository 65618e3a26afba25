// SPDX-License-Identifier: Apache-2.0
// The logs of all enforcement points share the daemon's time.
#include "trireme/points/log_turns.hpp"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace trireme::points {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

class LogTurnsTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(turns_.open(loop_.get())); }
  /// A reading that takes 3 ms, after which the pause is 27 ms.
  void request(handshake::PointId reader) {
    turns_.request(reader, [this, reader] {
      read_.push_back(reader);
      began_.push_back(Clock::now());
      std::this_thread::sleep_for(3ms);
    });
  }
  /// Until there were so many readings, and then long enough for another one.
  void run_until(std::size_t count) {
    for (const auto end = Clock::now() + 10s; read_.size() < count && Clock::now() < end;) {
      ASSERT_TRUE(loop_.run_once(5ms));
    }
    for (const auto end = Clock::now() + 50ms; Clock::now() < end;) {
      ASSERT_TRUE(loop_.run_once(5ms));
    }
  }

  event::Loop loop_ = event::Loop::create().value();
  LogTurns turns_;
  std::vector<handshake::PointId> read_;
  std::vector<Clock::time_point> began_;
};

TEST_F(LogTurnsTest, TheFirstIsReadAtOnce) {
  request(1);
  EXPECT_EQ(read_, std::vector<handshake::PointId>{1});
}

TEST_F(LogTurnsTest, AllPointsTogetherTakeATenthOfTheTime) {
  for (const handshake::PointId reader : {1U, 2U, 3U}) {
    request(reader);
  }
  EXPECT_EQ(read_.size(), 1U);
  run_until(3);
  ASSERT_EQ(read_, (std::vector<handshake::PointId>{1, 2, 3})) << "in their order";
  // A reading of 3 ms and nine times that; the loop's clock can be as old as the reading.
  EXPECT_GE(began_[1] - began_[0], 27ms);
  EXPECT_GE(began_[2] - began_[1], 27ms);
}

TEST_F(LogTurnsTest, WhoReadsAgainIsBehindTheOthers) {
  request(1);
  request(2);
  request(1);
  request(3);
  run_until(4);
  EXPECT_EQ(read_, (std::vector<handshake::PointId>{1, 2, 1, 3}));
}

TEST_F(LogTurnsTest, AClosedPointIsNotRead) {
  request(1);
  request(2);
  request(3);
  turns_.remove(2);
  run_until(2);
  EXPECT_EQ(read_, (std::vector<handshake::PointId>{1, 3}));
}

/// Readings without a pause of their own add up.
TEST_F(LogTurnsTest, ShortReadingsAddUp) {
  int count = 0;
  for (int i = 0; i < 100; i++) {
    turns_.request(1, [&count] {
      count++;
      std::this_thread::sleep_for(50us);
    });
  }
  EXPECT_LT(count, 100);
  turns_.remove(1);
}

}  // namespace
}  // namespace trireme::points
