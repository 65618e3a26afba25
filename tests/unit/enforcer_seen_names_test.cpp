// SPDX-License-Identifier: Apache-2.0
#include "trireme/enforcer/seen_names.hpp"

#include <gtest/gtest.h>

namespace trireme::enforcer {
namespace {

policy::Address seen_address(std::size_t number) {
  policy::Address address;
  address.bytes = {10, 0, static_cast<std::uint8_t>(number >> 8U),
                   static_cast<std::uint8_t>(number)};
  return address;
}

constexpr abi::Number kWeb = 16;
constexpr abi::Number kOther = 17;

TEST(SeenNames, TheNewestNameOfAnAddressCounts) {
  SeenNames names;
  EXPECT_EQ(names.find(kWeb, seen_address(1)), nullptr);
  names.add(kWeb, seen_address(1), "old.example.org");
  names.add(kWeb, seen_address(1), "new.example.org");
  ASSERT_NE(names.find(kWeb, seen_address(1)), nullptr);
  EXPECT_EQ(*names.find(kWeb, seen_address(1)), "new.example.org");
  EXPECT_EQ(names.find(kWeb, seen_address(2)), nullptr);
}

TEST(SeenNames, AWorkloadCannotNameTheAddressesOfAnother) {
  SeenNames names;
  names.add(kWeb, seen_address(1), "web.example.org");
  names.add(kOther, seen_address(1), "other.example.org");
  names.add(kOther, seen_address(2), "other.example.org");
  EXPECT_EQ(*names.find(kWeb, seen_address(1)), "web.example.org");
  EXPECT_EQ(*names.find(kOther, seen_address(1)), "other.example.org");
  EXPECT_EQ(names.find(kWeb, seen_address(2)), nullptr);
}

TEST(SeenNames, TheOldestAddressIsRemovedForANewOne) {
  SeenNames names;
  for (std::size_t i = 0; i < SeenNames::kMost; ++i) {
    names.add(kWeb, seen_address(i), "a.example.org");
  }
  names.add(kWeb, seen_address(0), "b.example.org");  // as old as before
  EXPECT_NE(names.find(kWeb, seen_address(0)), nullptr);
  names.add(kWeb, seen_address(SeenNames::kMost), "a.example.org");
  EXPECT_EQ(names.find(kWeb, seen_address(0)), nullptr);
  EXPECT_NE(names.find(kWeb, seen_address(1)), nullptr);
  EXPECT_NE(names.find(kWeb, seen_address(SeenNames::kMost)), nullptr);
}

TEST(SeenNames, TheLargestHolderGivesWay) {
  SeenNames names;
  names.add(kWeb, seen_address(1), "web.example.org");
  for (std::size_t i = 0; i < 2 * SeenNames::kMost; ++i) {
    names.add(kOther, seen_address(i), "other.example.org");
  }
  EXPECT_NE(names.find(kWeb, seen_address(1)), nullptr);
  EXPECT_EQ(names.find(kOther, seen_address(1)), nullptr);
  names.add(kWeb, seen_address(2), "web.example.org");
  EXPECT_NE(names.find(kWeb, seen_address(1)), nullptr);
  EXPECT_NE(names.find(kWeb, seen_address(2)), nullptr);
}

}  // namespace
}  // namespace trireme::enforcer
