// SPDX-License-Identifier: Apache-2.0
#include "../../src/enforcer/name_book.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace trireme::enforcer {
namespace {

using policy::Address;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

using Names = std::vector<std::vector<std::string>>;

std::shared_ptr<const policy::NameIndex> index_of(const Names& networks) {
  policy::Policy policy;
  for (const auto& names : networks) {
    policy.networks.push_back({.name = "n", .cidrs = {}, .names = names, .where = {}});
  }
  return std::make_shared<const policy::NameIndex>(policy);
}

Address at(unsigned number) {
  Address address;
  address.bytes = {10, 0, static_cast<std::uint8_t>(number >> 8U),
                   static_cast<std::uint8_t>(number)};
  return address;
}

class NameBookTest : public testing::Test {
 protected:
  NameBook::Change learn(const std::string& name, unsigned address, seconds ttl) {
    NameBook::Change change;
    book_.learn(name, at(address), ttl, now_, change);
    return change;
  }
  NameBook::Change end(const std::set<Address>& in_use = {}) {
    NameBook::Change change;
    book_.end(now_, in_use, change);
    return change;
  }

  NameBook::Time now_{seconds(1'000'000)};
  NameBook book_{index_of({{"deb.example.org", "*.pool.example.org"}, {"*.example.org"}})};
};

TEST_F(NameBookTest, ANameIsInEveryNetworkThatNamesIt) {
  EXPECT_TRUE(learn("www.example.com", 1, seconds(300)).empty());
  EXPECT_THAT(learn("deb.example.org", 1, seconds(300)).written, ElementsAre(at(1)));
  EXPECT_THAT(book_.networks(at(1)), ElementsAre(0, 1));
  learn("a.b.pool.example.org", 2, seconds(300));
  EXPECT_THAT(book_.networks(at(2)), ElementsAre(0, 1));
  learn("pool.example.org", 3, seconds(300));
  EXPECT_THAT(book_.networks(at(3)), ElementsAre(1));
  EXPECT_TRUE(learn("example.org", 4, seconds(300)).empty())
      << "a wildcard does not match the domain itself";
  EXPECT_THAT(book_.networks(at(4)), IsEmpty());
}

TEST_F(NameBookTest, AnAddressOfTwoNamesLeavesTheNetworksOfTheOneThatEnds) {
  learn("deb.example.org", 1, seconds(60));
  learn("www.example.org", 1, seconds(3600));
  EXPECT_THAT(book_.networks(at(1)), ElementsAre(0, 1));
  EXPECT_THAT(book_.names(at(1)), UnorderedElementsAre("deb.example.org", "www.example.org"));
  now_ += seconds(600);
  EXPECT_THAT(end().written, ElementsAre(at(1)));
  EXPECT_THAT(book_.networks(at(1)), ElementsAre(1));
  now_ += seconds(7200);
  EXPECT_THAT(end().gone, ElementsAre(at(1)));
  EXPECT_EQ(book_.size(), 0U);
}

TEST_F(NameBookTest, TimesAreBounded) {
  learn("deb.example.org", 1, seconds(0));
  learn("deb.example.org", 2, seconds(1U << 30U));
  now_ += NameBook::kLeast;
  EXPECT_TRUE(end().empty());
  now_ += seconds(60);
  EXPECT_THAT(end().gone, ElementsAre(at(1)));
  now_ += 2 * NameBook::kMost;
  EXPECT_THAT(end().gone, ElementsAre(at(2)));
}

TEST_F(NameBookTest, WhatIsAskedForAgainAndAgainIsWrittenOnceInAWhile) {
  std::size_t written = learn("deb.example.org", 1, seconds(60)).written.size();
  for (int second = 0; second < 600; second++) {
    now_ += seconds(1);
    written += learn("deb.example.org", 1, seconds(60)).written.size();
    ASSERT_GE(book_.until(at(1)), now_ + seconds(60));
    ASSERT_TRUE(end().empty());
  }
  EXPECT_LT(written, 50U);
}

TEST_F(NameBookTest, AddressesThatFlowsUseStay) {
  learn("deb.example.org", 1, seconds(60));
  learn("deb.example.org", 2, seconds(60));
  now_ += seconds(100);
  EXPECT_EQ(book_.due(now_).size(), 2U);
  const NameBook::Change change = end({at(1)});
  EXPECT_THAT(change.written, ElementsAre(at(1)));
  EXPECT_THAT(change.gone, ElementsAre(at(2)));
  EXPECT_THAT(book_.networks(at(1)), ElementsAre(0, 1));
  EXPECT_TRUE(book_.due(now_ + seconds(59)).empty());
}

TEST_F(NameBookTest, ANetworkIsBoundedAndTheOneThatEndsFirstGivesWay) {
  learn("deb.example.org", 0, seconds(90));
  for (unsigned address = 1; address < NameBook::kMostAddresses; address++) {
    ASSERT_TRUE(learn("x.pool.example.org", address, seconds(600)).gone.empty());
  }
  const NameBook::Change change =
      learn("y.pool.example.org", NameBook::kMostAddresses, seconds(60));
  EXPECT_THAT(change.gone, ElementsAre(at(0)));
  EXPECT_THAT(change.written, ElementsAre(at(NameBook::kMostAddresses)));
  EXPECT_EQ(change.evicted.at(0), 1U);
  EXPECT_EQ(book_.size(), NameBook::kMostAddresses);
  EXPECT_TRUE(learn("x.pool.example.org", 5, seconds(900)).gone.empty())
      << "the network already has it";
}

TEST_F(NameBookTest, AnotherPolicyKeepsWhatItKnows) {
  learn("deb.example.org", 1, seconds(60));
  learn("www.example.org", 2, seconds(60));
  book_.set_index(index_of({{"nobody.example.org"}, {"other.example.org"}, {"deb.example.org"}}));
  EXPECT_THAT(book_.networks(at(1)), ElementsAre(2));
  EXPECT_THAT(book_.all(), ElementsAre(at(1)));
  EXPECT_THAT(book_.names(at(1)), ElementsAre("deb.example.org"));
  now_ += seconds(200);
  EXPECT_THAT(end().gone, ElementsAre(at(1)));
}

}  // namespace
}  // namespace trireme::enforcer
