// SPDX-License-Identifier: Apache-2.0
// The history of configurations: order, bound, search by digest, and crashes.
#include "trireme/config/history.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <fmt/format.h>

#include "config_support.hpp"

namespace trireme::config {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

struct Crash {};

FileSet numbered(int number, const std::string& host = "here") {
  return {.policy = {{"policy.toml", fmt::format("# {}\n", number)}},
          .identity = {{"identity.toml", fmt::format("[host]\nname = \"{}\"\n", host)}}};
}

History::Entry entry_of(const FileSet& files, const std::string& how = "save") {
  return {.digests = digests_of(files),
          .time = std::chrono::system_clock::time_point(std::chrono::seconds(1'800'000'000)),
          .user = "alice",
          .how = how,
          .rules = 3};
}

class HistoryTest : public ::testing::Test {
 protected:
  [[nodiscard]] std::string place() const { return directory_.path("history"); }
  [[nodiscard]] History opened() const {
    History history(place());
    EXPECT_TRUE(history.open());
    return history;
  }
  [[nodiscard]] std::size_t files() const {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(place()), {}));
  }

  TemporaryDirectory directory_;
};

TEST_F(HistoryTest, IsOnDiskForRootAlone) {
  History history = opened();
  EXPECT_THAT(history.entries(), IsEmpty());
  ASSERT_TRUE(history.add(entry_of(numbered(1), "apply"), numbered(1)));
  const History again = opened();
  ASSERT_THAT(again.entries(), SizeIs(1));
  const History::Entry& entry = again.entries().front();
  EXPECT_EQ(entry.digests, digests_of(numbered(1)));
  EXPECT_EQ(entry.user, "alice");
  EXPECT_EQ(entry.how, "apply");
  EXPECT_EQ(entry.rules, 3U);
  EXPECT_EQ(entry.time.time_since_epoch(), std::chrono::seconds(1'800'000'000));
  EXPECT_FALSE(entry.rolled_back);
  EXPECT_EQ(digests_of(again.files(entry).value()), entry.digests);
  struct stat status = {};
  ASSERT_EQ(::stat(place().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0700U);
  for (const auto& file : std::filesystem::directory_iterator(place())) {
    ASSERT_EQ(::stat(file.path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777U, 0600U) << file.path();
  }
}

TEST_F(HistoryTest, KeepsTheLastTwenty) {
  History history = opened();
  for (int number = 0; number < 25; ++number) {
    ASSERT_TRUE(history.add(entry_of(numbered(number)), numbered(number)));
  }
  ASSERT_THAT(history.entries(), SizeIs(History::kMost));
  EXPECT_EQ(history.entries().front().digests, digests_of(numbered(24)));
  EXPECT_EQ(history.entries().back().digests, digests_of(numbered(5)));
  EXPECT_EQ(files(), History::kMost + 1) << "and the index";
  EXPECT_FALSE(history.files(entry_of(numbered(0))));
}

TEST_F(HistoryTest, WhatComesBackIsOneEntry) {
  History history = opened();
  for (const int number : {1, 2, 1}) {
    ASSERT_TRUE(history.add(entry_of(numbered(number)), numbered(number)));
  }
  ASSERT_THAT(history.entries(), SizeIs(2));
  EXPECT_EQ(history.entries()[0].digests, digests_of(numbered(1)));
  ASSERT_TRUE(history.add(entry_of(numbered(1, "elsewhere")), numbered(1, "elsewhere")));
  EXPECT_THAT(history.entries(), SizeIs(3)) << "another identity is another configuration";
}

TEST_F(HistoryTest, BeforeSkipsWhatWasRolledBack) {
  History history = opened();
  for (const int number : {1, 2, 3}) {
    ASSERT_TRUE(history.add(entry_of(numbered(number)), numbered(number)));
  }
  EXPECT_EQ(history.before(digests_of(numbered(3)))->digests, digests_of(numbered(2)));
  ASSERT_TRUE(history.note_rollback(digests_of(numbered(3))));
  ASSERT_TRUE(history.add(entry_of(numbered(2), "rollback"), numbered(2)));
  EXPECT_EQ(opened().before(digests_of(numbered(2)))->digests, digests_of(numbered(1)));
  ASSERT_TRUE(history.add(entry_of(numbered(3)), numbered(3)));
  EXPECT_FALSE(history.entries().front().rolled_back) << "it is in force again";
  EXPECT_TRUE(history.note_rollback(digests_of(numbered(9)))) << "not in the history";
  EXPECT_FALSE(History(directory_.path("none")).before({}));
}

TEST_F(HistoryTest, FindsByTheFirstDigits) {
  History history = opened();
  for (int number = 0; number < 18; ++number) {
    ASSERT_TRUE(history.add(entry_of(numbered(number)), numbered(number)));
  }
  const Digests wanted = digests_of(numbered(7));
  EXPECT_EQ(history.find(wanted.policy)->digests, wanted);
  EXPECT_EQ(history.find(wanted.policy.substr(0, 12))->digests, wanted);
  std::string upper = wanted.policy.substr(0, 16);
  std::ranges::transform(upper, upper.begin(), [](char c) {
    return c >= 'a' && c <= 'f' ? static_cast<char>(c - 'a' + 'A') : c;
  });
  EXPECT_EQ(history.find(upper)->digests, wanted);

  const auto unknown = history.find("nothing");
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().message, HasSubstr("begins with 'nothing'"));
  EXPECT_THAT(unknown.error().hint, HasSubstr(digests_of(numbered(17)).policy.substr(0, 16)));
  // 18 digests share 16 first digits.
  const auto ambiguous = history.find("");
  ASSERT_FALSE(ambiguous);
  EXPECT_THAT(ambiguous.error().message, HasSubstr("18 policies"));
}

TEST_F(HistoryTest, TellsIdentitiesApart) {
  History history = opened();
  ASSERT_TRUE(history.add(entry_of(numbered(1, "a")), numbered(1, "a")));
  ASSERT_TRUE(history.add(entry_of(numbered(1, "b")), numbered(1, "b")));
  const Digests first = digests_of(numbered(1, "a"));
  const auto ambiguous = history.find(first.policy.substr(0, 16));
  ASSERT_FALSE(ambiguous);
  const std::string full = first.policy.substr(0, 16) + ":" + first.identity.substr(0, 16);
  EXPECT_THAT(ambiguous.error().hint, HasSubstr(full));
  ASSERT_TRUE(history.find(full));
  EXPECT_EQ(history.find(full)->digests, first);
}

TEST_F(HistoryTest, DamageIsAnErrorAndNotAnEnd) {
  History history = opened();
  ASSERT_TRUE(history.add(entry_of(numbered(1)), numbered(1)));
  const History::Entry entry = history.entries().front();
  const std::string file =
      place() + "/" + entry.digests.policy + "-" + entry.digests.identity + ".json";
  ASSERT_TRUE(write_file(file, to_json(numbered(2)).dump()));
  EXPECT_THAT(history.files(entry).error().message, HasSubstr("damaged"));
  ASSERT_TRUE(write_file(file, "{"));
  EXPECT_FALSE(history.files(entry));

  for (const char* index : {"", "{", "{}", R"([{"digest": 1}])",
                            R"([{"digest": "../x", "identity_digest": "y", "time": 1, "user": "",
                                 "how": "", "rules": 0, "rolled_back": false}])"}) {
    ASSERT_TRUE(write_file(place() + "/index.json", index));
    History damaged(place());
    if (const std::string text = index; text != "{}") {
      EXPECT_FALSE(damaged.open()) << index;
    }
    EXPECT_THAT(damaged.entries(), IsEmpty());
    EXPECT_TRUE(damaged.add(entry_of(numbered(3)), numbered(3)));
    EXPECT_THAT(opened().entries(), SizeIs(1));
  }
}

TEST_F(HistoryTest, DamageOfTheIndexLosesNoConfiguration) {
  History history = opened();
  for (int number = 0; number < 20; ++number) {
    ASSERT_TRUE(history.add(entry_of(numbered(number)), numbered(number)));
  }
  const std::size_t before = files();
  ASSERT_TRUE(write_file(place() + "/index.json", "{"));
  History damaged(place());
  const Status opened_damaged = damaged.open();
  ASSERT_FALSE(opened_damaged);
  EXPECT_THAT(opened_damaged.error().message, HasSubstr(place() + ".damaged-1"));
  ASSERT_TRUE(damaged.add(entry_of(numbered(30)), numbered(30)));
  EXPECT_THAT(opened().entries(), SizeIs(1));
  EXPECT_EQ(static_cast<std::size_t>(
                std::distance(std::filesystem::directory_iterator(place() + ".damaged-1"), {})),
            before);
}

TEST_F(HistoryTest, ADamagedIndexThatStaysInPlaceKeepsTheFiles) {
  History history = opened();
  for (int number = 0; number < 5; ++number) {
    ASSERT_TRUE(history.add(entry_of(numbered(number)), numbered(number)));
  }
  const std::size_t before = files();
  ASSERT_TRUE(write_file(place() + "/index.json", "{"));
  History damaged(place(), Disk([](const std::string& change) {
                    return change.starts_with("rename") ? fail("the disk is full") : Status{};
                  }));
  const Status opened_damaged = damaged.open();
  ASSERT_FALSE(opened_damaged);
  EXPECT_THAT(opened_damaged.error().message, HasSubstr("the disk is full"));
  EXPECT_FALSE(damaged.add(entry_of(numbered(9)), numbered(9)));
  EXPECT_EQ(files(), before);
}

TEST_F(HistoryTest, ACrashBetweenAnyTwoWritesLosesNothingElse) {
  History history = opened();
  for (int number = 0; number < 20; ++number) {
    ASSERT_TRUE(history.add(entry_of(numbered(number)), numbered(number)));
  }
  for (int crash = 0;; ++crash) {
    int changes = 0;
    History crashing(place(), Disk([&](const std::string&) -> Status {
                       if (changes++ == crash) {
                         throw Crash{};
                       }
                       return {};
                     }));
    ASSERT_TRUE(crashing.open());
    const FileSet next = numbered(100 + crash);
    bool crashed = false;
    try {
      ASSERT_TRUE(crashing.add(entry_of(next), next));
    } catch (const Crash&) {
      crashed = true;
    }
    const History after = opened();
    ASSERT_THAT(after.entries(), SizeIs(History::kMost)) << crash;
    for (const History::Entry& entry : after.entries()) {
      EXPECT_TRUE(after.files(entry)) << crash;
    }
    if (!crashed) {
      EXPECT_GE(crash, 4);  // two files created, two renamed, at least
      EXPECT_EQ(files(), History::kMost + 1) << "leftovers of crashes are removed";
      return;
    }
  }
}

}  // namespace
}  // namespace trireme::config
