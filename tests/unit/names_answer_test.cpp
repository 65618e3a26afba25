// SPDX-License-Identifier: Apache-2.0
#include "trireme/names/answer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "names_support.hpp"

namespace trireme::names {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::UnorderedElementsAre;

std::vector<std::string> read(const Message& message) {
  std::vector<std::string> result;
  if (const auto answer = read_answer(message.bytes())) {
    result.push_back(answer->name);
    for (const ResolvedAddress& resolved : answer->addresses) {
      result.push_back(resolved.address.text() + " " + std::to_string(resolved.ttl.count()));
    }
  }
  return result;
}

TEST(Answer, SaysTheAddressesOfTheQuestion) {
  EXPECT_THAT(read({.answers = {a("@12", "10.0.0.1"), a("deb.example.org", "10.0.0.2", 60)}}),
              UnorderedElementsAre("deb.example.org", "10.0.0.1 300", "10.0.0.2 60"));
  EXPECT_THAT(read({.answers = {a("@12", "fd00::1", 0)}, .type = 28}),
              ElementsAre("deb.example.org", "fd00::1 0"));
  EXPECT_THAT(read({.question = "DEB.Example.ORG", .answers = {a("deb.example.ORG", "10.0.0.1")}}),
              ElementsAre("deb.example.org", "10.0.0.1 300"));
}

TEST(Answer, FollowsAliasesInAnyOrderWithTheLeastTtl) {
  EXPECT_THAT(read({.answers = {a("c.example.net", "10.0.0.1", 500),
                                cname("b.example.net", "c.example.net", 30),
                                cname("@12", "b.example.net")}}),
              ElementsAre("deb.example.org", "10.0.0.1 30"));
}

TEST(Answer, WhatDoesNotBelongToTheQuestionCountsForNothing) {
  EXPECT_TRUE(read({.answers = {a("other.example.org", "10.0.0.1")}}).empty());
  EXPECT_TRUE(read({.answers = {}, .additional = {a("deb.example.org", "10.0.0.1")}}).empty());
  EXPECT_THAT(read({.question = "evil.example.net",
                    .answers = {a("@12", "10.0.0.9"), a("deb.example.org", "10.0.0.1")}}),
              ElementsAre("evil.example.net", "10.0.0.9 300"));
  Record chaos = a("@12", "10.0.0.1");
  chaos.klass = 3;
  EXPECT_TRUE(read({.answers = {chaos}}).empty());
}

TEST(Answer, IsAnAnswerToOneQuestionThatSucceeded) {
  const std::vector<Record> answers = {a("deb.example.org", "10.0.0.1")};
  EXPECT_FALSE(read({.answers = answers}).empty());
  for (const unsigned flags :
       {0x0180U, 0x8183U, 0x8182U, 0xa980U}) {  // a query, NXDOMAIN, SERVFAIL, an update
    EXPECT_TRUE(read({.answers = answers, .flags = flags}).empty()) << flags;
  }
  EXPECT_TRUE(read({.answers = answers, .questions = 0}).empty());
  EXPECT_TRUE(read({.answers = answers, .questions = 2}).empty());
  EXPECT_TRUE(read({.answers = answers, .klass = 3}).empty());
}

TEST(Answer, LoopsEnd) {
  EXPECT_TRUE(
      read({.answers = {cname("@12", "b.example.org"), cname("b.example.org", "deb.example.org")}})
          .empty());
  EXPECT_TRUE(read({.answers = {cname("@12", "@12"), a("x.example.org", "10.0.0.1")}}).empty());
  std::vector<Record> chain;
  for (std::size_t i = 0; i <= kMostAliases; i++) {
    chain.push_back(cname(i == 0 ? "@12" : "n" + std::to_string(i) + ".example.org",
                          "n" + std::to_string(i + 1) + ".example.org"));
  }
  chain.push_back(a("n" + std::to_string(kMostAliases + 1) + ".example.org", "10.0.0.1"));
  EXPECT_TRUE(read({.answers = chain}).empty());
  // Compression pointers that point to themselves, forward, and to another such pointer.
  for (const char* owner : {"@33", "@34", "@60"}) {
    EXPECT_TRUE(read({.answers = {a(owner, "10.0.0.1")}}).empty()) << owner;
  }
}

TEST(Answer, ADotWithinALabelIsNoDot) {
  // A name with the single label "x.example.org": not a name below example.org.
  Bytes name = {13};
  for (const char c : std::string_view("x.example.org")) {
    name.push_back(static_cast<std::uint8_t>(c));
  }
  Bytes bytes = Message{.question = "", .answers = {a("@12", "10.0.0.1")}}.bytes();
  bytes.insert(bytes.begin() + 12, name.begin(), name.end());
  EXPECT_FALSE(read_answer(bytes));
  for (const char* odd : {"x y.example.org", "*.example.org", "\xc3\xa4.example.org"}) {
    EXPECT_TRUE(read({.question = odd, .answers = {a("@12", "10.0.0.1")}}).empty()) << odd;
  }
}

TEST(Answer, AddressesHaveTheirLengthAndTtlsTheirSign) {
  Record odd = a("@12", "10.0.0.1");
  odd.data.push_back(0);
  EXPECT_TRUE(read({.answers = {odd}}).empty());
  EXPECT_THAT(read({.answers = {a("@12", "10.0.0.1", 0x80000000U)}}),
              ElementsAre("deb.example.org", "10.0.0.1 0"));
}

TEST(Answer, CutOrChangedAnywhereItIsReadWithinItsBounds) {
  const Bytes whole =
      Message{.answers = {cname("@12", "b.example.net"), a("b.example.net", "10.0.0.1"),
                          a("b.example.net", "10.0.0.2")}}
          .bytes();
  ASSERT_TRUE(read_answer(whole));
  for (std::size_t size = 0; size < whole.size(); size++) {
    // A copy, so that ASan detects reads beyond its end.
    const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_FALSE(read_answer(cut)) << size;
  }
  std::mt19937 random(7);
  for (int i = 0; i < 100'000; i++) {
    Bytes changed = whole;
    for (unsigned flips = random() % 4 + 1; flips > 0; flips--) {
      changed[random() % changed.size()] = static_cast<std::uint8_t>(random());
    }
    std::ignore = read_answer(changed);
  }
  EXPECT_FALSE(read_answer(Bytes(70'000)));
}

}  // namespace
}  // namespace trireme::names
