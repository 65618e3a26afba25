// SPDX-License-Identifier: Apache-2.0
#include "trireme/enforcer/flow_label.hpp"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace trireme::enforcer {
namespace {

FlowLabel joined(const FlowLabel& a, const FlowLabel& b) {
  FlowLabel result = a;
  for (std::size_t i = 0; i < result.words.size(); i++) {
    result.words[i] |= b.words[i];
  }
  return result;
}

/// Every bit of a number alone, the ends of the range, and some between.
std::set<policy::Number> numbers() {
  std::set<policy::Number> all = {kHost,    kQuarantine, policy::kFirstNumber, policy::kLastNumber,
                                  0xaaaaaa, 0x555555};
  for (unsigned bit = 0; bit < 24; bit++) {
    all.insert(1U << bit);
  }
  std::mt19937 random(7434);
  std::uniform_int_distribution<policy::Number> any(1, policy::kLastNumber);
  while (all.size() < 200) {
    all.insert(any(random));
  }
  return all;
}

TEST(FlowLabel, HoldsBothNumbersAndTheBits) {
  for (const policy::Number from : numbers()) {
    for (const policy::Number to : {kHost, policy::kFirstNumber, policy::kLastNumber, from}) {
      const FlowLabel label = joined(FlowLabel::source(from, kAuthorised),
                                     FlowLabel::destination(to, kAuthorised | kLogged));
      EXPECT_EQ(label.source(), from);
      EXPECT_EQ(label.destination(), to);
      EXPECT_EQ(label.flags(), kAuthorised | kLogged);
    }
  }
}

TEST(FlowLabel, HoldsOneNumberAlone) {
  const FlowLabel source = FlowLabel::source(77, kAuthorised);
  EXPECT_EQ(source.source(), 77U);
  EXPECT_EQ(source.destination(), kNoNumber);
  const FlowLabel destination = FlowLabel::destination(77, kAuthorised);
  EXPECT_EQ(destination.source(), kNoNumber);
  EXPECT_EQ(destination.destination(), 77U);
  EXPECT_EQ(FlowLabel::bits(kExempt).source(), kNoNumber);
  EXPECT_EQ(FlowLabel::bits(kExempt).destination(), kNoNumber);
  EXPECT_EQ(FlowLabel::bits(kExempt).flags(), kExempt);
}

TEST(FlowLabel, TwoWritersAreNoThirdParty) {
  const auto all = numbers();
  for (const policy::Number a : all) {
    for (const policy::Number b : all) {
      const auto source = joined(FlowLabel::source(a, 0), FlowLabel::source(b, 0)).source();
      const auto destination =
          joined(FlowLabel::destination(a, 0), FlowLabel::destination(b, 0)).destination();
      if (a == b) {
        EXPECT_EQ(source, a) << "written twice is fine";
        EXPECT_EQ(destination, a);
      } else {
        EXPECT_EQ(source, std::nullopt) << a << " and " << b;
        EXPECT_EQ(destination, std::nullopt) << a << " and " << b;
      }
    }
  }
}

TEST(FlowLabel, WritersOfTheTwoEndsDoNotMeet) {
  for (const policy::Number a : numbers()) {
    const FlowLabel source = FlowLabel::source(a, 0);
    const FlowLabel destination = FlowLabel::destination(~a & policy::kLastNumber, 0);
    for (std::size_t i = 0; i < source.words.size(); i++) {
      EXPECT_EQ(source.words[i] & destination.words[i], 0U);
    }
    EXPECT_EQ(source.flags(), 0U);
    EXPECT_EQ(destination.flags(), 0U);
  }
}

TEST(FlowLabel, IsFourRegisters) {
  const auto bytes = FlowLabel::bits(kAuthorised).nft();
  ASSERT_EQ(bytes.size(), 16U);
  EXPECT_TRUE(bytes == kernel::NftBytes::u32(kAuthorised).add_u32(0).add_u32(0).add_u32(0));
}

}  // namespace
}  // namespace trireme::enforcer
