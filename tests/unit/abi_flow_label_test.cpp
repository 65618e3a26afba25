// SPDX-License-Identifier: Apache-2.0
#include "trireme/abi/flow_label.hpp"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace trireme::abi {
namespace {

FlowLabel joined(const FlowLabel& a, const FlowLabel& b) {
  FlowLabel result = a;
  for (std::size_t i = 0; i < result.words.size(); i++) {
    result.words[i] |= b.words[i];
  }
  return result;
}

/// Numbers with a single bit set, the limits of the range, and random ones.
std::set<Number> numbers() {
  std::set<Number> all = {kHost, kQuarantine, kFirstNumber, kLastNumber, 0xaaaaaa, 0x555555};
  for (unsigned bit = 0; bit < 24; bit++) {
    all.insert(1U << bit);
  }
  std::mt19937 random(7434);
  std::uniform_int_distribution<Number> any(1, kLastNumber);
  while (all.size() < 200) {
    all.insert(any(random));
  }
  return all;
}

TEST(FlowLabel, HoldsBothNumbersAndTheBits) {
  for (const Number from : numbers()) {
    for (const Number to : {kHost, kFirstNumber, kLastNumber, from}) {
      const FlowLabel label = joined(FlowLabel::source(from, kAuthorized),
                                     FlowLabel::destination(to, kAuthorized | kLogged));
      EXPECT_EQ(label.source(), from);
      EXPECT_EQ(label.destination(), to);
      EXPECT_EQ(label.flags(), kAuthorized | kLogged);
    }
  }
}

TEST(FlowLabel, HoldsOneNumberAlone) {
  const FlowLabel source = FlowLabel::source(77, kAuthorized);
  EXPECT_EQ(source.source(), 77U);
  EXPECT_EQ(source.destination(), kNoNumber);
  const FlowLabel destination = FlowLabel::destination(77, kAuthorized);
  EXPECT_EQ(destination.source(), kNoNumber);
  EXPECT_EQ(destination.destination(), 77U);
  EXPECT_EQ(FlowLabel::bits(kExempt).source(), kNoNumber);
  EXPECT_EQ(FlowLabel::bits(kExempt).destination(), kNoNumber);
  EXPECT_EQ(FlowLabel::bits(kExempt).flags(), kExempt);
}

TEST(FlowLabel, TwoWritersAreNoThirdParty) {
  const auto all = numbers();
  for (const Number a : all) {
    for (const Number b : all) {
      const auto source = joined(FlowLabel::source(a, 0), FlowLabel::source(b, 0)).source();
      const auto destination =
          joined(FlowLabel::destination(a, 0), FlowLabel::destination(b, 0)).destination();
      if (a == b) {
        EXPECT_EQ(source, a) << "writing the same number twice is not a conflict";
        EXPECT_EQ(destination, a);
      } else {
        EXPECT_EQ(source, std::nullopt) << a << " and " << b;
        EXPECT_EQ(destination, std::nullopt) << a << " and " << b;
      }
    }
  }
}

TEST(FlowLabel, WritersOfTheTwoEndsDoNotMeet) {
  for (const Number a : numbers()) {
    const FlowLabel source = FlowLabel::source(a, 0);
    const FlowLabel destination = FlowLabel::destination(~a & kLastNumber, 0);
    for (std::size_t i = 0; i < source.words.size(); i++) {
      EXPECT_EQ(source.words[i] & destination.words[i], 0U);
    }
    EXPECT_EQ(source.flags(), 0U);
    EXPECT_EQ(destination.flags(), 0U);
  }
}

}  // namespace
}  // namespace trireme::abi
