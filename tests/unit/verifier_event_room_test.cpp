// SPDX-License-Identifier: Apache-2.0
// A flood of one owner's refusals leaves room for events of others.
#include "../../src/verifier/event_room.hpp"

#include <gtest/gtest.h>

namespace trireme::verifier {
namespace {

using handshake::Owner;

TEST(EventRoom, AFloodOfOneLeavesRoomForOthers) {
  EventRoom room;
  std::size_t taken = 0;
  for (int i = 0; i < 10'000; i++) {
    taken += room.take(Owner::workload(100)) ? 1U : 0U;
  }
  EXPECT_EQ(taken, EventRoom::kEvents / 2);
  for (policy::Number other = 101; other < 106; other++) {
    for (std::uint16_t i = 0; i < EventRoom::kOfOne; i++) {
      ASSERT_TRUE(room.take(Owner::workload(other)));
    }
    EXPECT_FALSE(room.take(Owner::workload(other)));
  }
  room.clear();
  EXPECT_TRUE(room.take(Owner::workload(100)));
}

TEST(EventRoom, SamplesTakeNoPlaceOfARefusal) {
  EventRoom room;
  std::size_t samples = 0;
  for (int i = 0; i < 10'000; i++) {
    samples += room.take_sample() ? 1U : 0U;
  }
  EXPECT_EQ(samples, EventRoom::kSamples);
  std::size_t taken = 0;
  for (policy::Number owner = 16; owner < 10'016; owner++) {
    taken += room.take(Owner::workload(owner)) ? 1U : 0U;
  }
  EXPECT_EQ(taken, EventRoom::kEvents);
  room.clear();
  EXPECT_TRUE(room.take_sample());
}

TEST(EventRoom, IsBoundedHoweverManyTheyAre) {
  EventRoom room;
  std::size_t taken = 0;
  for (policy::Number owner = 16; owner < 10'016; owner++) {
    taken += room.take(Owner::workload(owner)) ? 1U : 0U;
  }
  EXPECT_EQ(taken, EventRoom::kEvents);
}

}  // namespace
}  // namespace trireme::verifier
