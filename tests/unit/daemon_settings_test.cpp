// SPDX-License-Identifier: Apache-2.0
// The configuration in force: loading, reloading, invalid files, and what a restart uses.
#include "../../src/daemon/settings.hpp"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <systemd/sd-event.h>

#include <filesystem>
#include <sstream>

#include "../../src/daemon/last_good.hpp"
#include "config_support.hpp"

namespace trireme::daemon {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr const char* kOneRule = "[[allow]]\nfrom = \"app=web\"\nto = \"app=db\"\n";
constexpr const char* kWrong = "[[allow]]\nform = \"app=web\"\nto = \"app=db\"\n";

class SettingsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_GE(sd_event_new(&loop_), 0);
    level_ = spdlog::get_level();
    spdlog::set_level(spdlog::level::off);
    config_.write("identity.toml", "[host]\nname = \"here\"\n");
  }
  void TearDown() override {
    settings_.reset();
    sd_event_unref(loop_);
    spdlog::set_level(level_);
  }
  void open() {
    settings_.reset();
    settings_ = Settings::open(config_.path(), run_.path(), [this] { return now_; });
    ASSERT_TRUE(settings_->follow(
        loop_,
        [this](auto policy, auto /*identity*/, auto /*trust*/) {
          applied_.push_back(policy->rules.size());
          return refuse_ ? fail("the kernel said no") : Status{};
        },
        [this] { ++outcomes_; }));
  }
  /// Saves a file as editors do: writes a new file and renames it over the old one.
  void save(const std::string& name, const std::string& content) {
    ASSERT_TRUE(replace_file(config_.path(name), content, 0644));
  }
  /// Runs the event loop until this many reloads have happened, at most 10 s.
  [[nodiscard]] bool await(unsigned outcomes) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (outcomes_ < outcomes && std::chrono::steady_clock::now() < end) {
      sd_event_run(loop_, 20'000);
    }
    return outcomes_ >= outcomes;
  }

  config::TemporaryDirectory config_;
  config::TemporaryDirectory run_;
  sd_event* loop_ = nullptr;
  std::unique_ptr<Settings> settings_;
  std::vector<std::size_t> applied_;  // number of rules of each policy that was applied
  std::chrono::system_clock::time_point now_ = std::chrono::system_clock::now();
  unsigned outcomes_ = 0;
  bool refuse_ = false;

 private:
  spdlog::level::level_enum level_ = spdlog::level::info;
};

TEST_F(SettingsTest, LoadsWhatIsThere) {
  config_.write("policy.toml", kOneRule);
  open();
  EXPECT_THAT(settings_->errors(), IsEmpty());
  ASSERT_NE(settings_->policy(), nullptr);
  EXPECT_THAT(settings_->policy()->rules, SizeIs(1));
  EXPECT_EQ(settings_->host()->name, "here");
  EXPECT_EQ(settings_->generation(), 1U);
  EXPECT_EQ(settings_->directory(), config_.path());
  ASSERT_THAT(settings_->policy_sources(), SizeIs(1));
  EXPECT_EQ(settings_->policy_sources()[0].content, kOneRule);
  ASSERT_THAT(settings_->identity_sources(), SizeIs(1));
  EXPECT_EQ(settings_->identity_sources()[0].file, "identity.toml");
}

TEST_F(SettingsTest, TheIdentityInForceIsThatOfItsFiles) {
  config_.write("identity.d/units.toml",
                "[[unit]]\nname = \"a.service\"\nlabels = { app = \"a\" }\n");
  open();
  ASSERT_THAT(settings_->identity_sources(), SizeIs(2));
  EXPECT_EQ(settings_->identity_sources()[1].file, "identity.d/units.toml");
  save("identity.toml", "[host]\nnome = \"x\"\n");
  EXPECT_FALSE(settings_->reload());
  EXPECT_THAT(settings_->identity_sources()[0].content, HasSubstr("here"))
      << "invalid files are not in force";
  save("identity.toml", "[host]\nname = \"there\"\n");
  ASSERT_TRUE(settings_->reload());
  EXPECT_THAT(settings_->identity_sources()[0].content, HasSubstr("there"));
  // A restart that finds invalid files uses the last valid ones.
  config_.write("identity.toml", "[host]\nnome = \"x\"\n");
  open();
  EXPECT_THAT(settings_->errors(), ::testing::Not(IsEmpty()));
  ASSERT_THAT(settings_->identity_sources(), SizeIs(2));
  EXPECT_THAT(settings_->identity_sources()[0].content, HasSubstr("there"));
}

TEST_F(SettingsTest, NoDirectoryIsAnError) {
  const auto opened = Settings::open(config_.path("missing"), run_.path());
  EXPECT_THAT(opened->errors(), ElementsAre(HasSubstr(config_.path("missing"))));
  EXPECT_EQ(opened->policy(), nullptr);
}

TEST_F(SettingsTest, AReloadIsAllOrNothing) {
  config_.write("policy.toml", kOneRule);
  open();
  save("policy.toml", kWrong);
  const Status wrong = settings_->reload();
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message, HasSubstr("policy.toml:2:1"));
  EXPECT_THAT(settings_->errors(), ::testing::Not(IsEmpty()));
  EXPECT_THAT(settings_->policy()->rules, SizeIs(1));
  EXPECT_EQ(settings_->generation(), 1U);
  EXPECT_THAT(applied_, IsEmpty()) << "an invalid policy is not applied";
  EXPECT_EQ(settings_->failed_reloads(), 1U);

  save("policy.toml", std::string(kOneRule) + kOneRule);
  ASSERT_TRUE(settings_->reload());
  EXPECT_THAT(settings_->errors(), IsEmpty());
  EXPECT_THAT(applied_, ElementsAre(2U));
  EXPECT_EQ(settings_->generation(), 2U);
  EXPECT_EQ(settings_->reloads(), 1U);
  EXPECT_EQ(outcomes_, 2U) << "called after each reload";
}

TEST_F(SettingsTest, WhatCannotBePutInForceChangesNothing) {
  open();
  save("policy.toml", kOneRule);
  refuse_ = true;
  EXPECT_FALSE(settings_->reload());
  EXPECT_THAT(settings_->errors(), ElementsAre(HasSubstr("the kernel said no")));
  EXPECT_THAT(settings_->policy()->rules, IsEmpty());
  EXPECT_EQ(settings_->generation(), 1U);
  EXPECT_THAT(settings_->policy_sources(), IsEmpty());
}

TEST_F(SettingsTest, ASaveIsEnough) {
  open();
  save("policy.toml", kOneRule);
  ASSERT_TRUE(await(1));
  EXPECT_THAT(settings_->policy()->rules, SizeIs(1));
}

TEST_F(SettingsTest, AFileThatIsBeingWrittenIsNotReadByHalf) {
  config_.write("policy.toml", kOneRule);
  open();
  Fd file(::open(config_.path("policy.toml").c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC));
  ASSERT_TRUE(file.valid());
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(1500);
  while (std::chrono::steady_clock::now() < end) {
    sd_event_run(loop_, 20'000);
  }
  EXPECT_EQ(outcomes_, 0U) << "the truncated file is a valid, empty policy";
  const std::string both = std::string(kOneRule) + kOneRule;
  ASSERT_EQ(::write(file.get(), both.data(), both.size()), static_cast<ssize_t>(both.size()));
  file.reset();
  ASSERT_TRUE(await(1));
  EXPECT_THAT(applied_, ElementsAre(2U));
}

TEST_F(SettingsTest, SavesThatFollowEachOtherAreOneReload) {
  open();
  for (int i = 0; i < 20; ++i) {
    save("policy.toml", kWrong);
    sd_event_run(loop_, 0);
  }
  save("policy.toml", kOneRule);
  ASSERT_TRUE(await(1));
  EXPECT_EQ(settings_->reloads(), 1U);
  EXPECT_EQ(settings_->failed_reloads(), 0U) << "the invalid file in between was never read";
}

TEST_F(SettingsTest, ARestartThatFindsWrongFilesEnforcesTheLastValidOnes) {
  config_.write("policy.toml", kOneRule);
  open();
  save("policy.toml", kWrong);
  open();
  EXPECT_THAT(settings_->errors(), ::testing::Contains(HasSubstr("policy.toml:2:1")));
  ASSERT_NE(settings_->policy(), nullptr);
  EXPECT_THAT(settings_->policy()->rules, SizeIs(1));
}

TEST_F(SettingsTest, AFirstStartWithWrongFilesHasNoPolicy) {
  config_.write("policy.toml", kWrong);
  open();
  EXPECT_THAT(settings_->errors(), ::testing::Not(IsEmpty()));
  EXPECT_EQ(settings_->policy(), nullptr);
  save("policy.toml", kOneRule);
  ASSERT_TRUE(await(1)) << "fixing the files triggers a reload";
  EXPECT_THAT(settings_->policy()->rules, SizeIs(1));
}

TEST_F(SettingsTest, KeysThatAreWrongLeaveTheRestInForce) {
  config_.write("policy.toml", kOneRule);
  config_.write("identity.toml", "[trust]\npsk_file = \"psk\"\n");
  config_.write("psk", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n");
  ASSERT_EQ(::chmod(config_.path("psk").c_str(), 0600), 0);
  open();
  ASSERT_THAT(settings_->errors(), IsEmpty());
  save("psk", "short");
  open();
  EXPECT_THAT(settings_->errors(), ::testing::Contains(HasSubstr("psk")));
  ASSERT_NE(settings_->policy(), nullptr);
  EXPECT_THAT(settings_->policy()->rules, SizeIs(1));
}

// Keys can be on a file system that is mounted late.
TEST_F(SettingsTest, AFirstStartWithoutKeysEnforcesTheRest) {
  config_.write("policy.toml", kOneRule);
  config_.write("identity.toml", "[trust]\npsk_file = \"keys/psk\"\n");
  open();
  ASSERT_NE(settings_->policy(), nullptr);
  EXPECT_THAT(settings_->policy()->rules, SizeIs(1));
  EXPECT_FALSE(settings_->trust()->offered()) << "remote hosts stay unlabeled";
  EXPECT_THAT(settings_->errors(), ::testing::Contains(HasSubstr("keys/psk")));
  EXPECT_THAT(settings_->errors(), ::testing::Contains(HasSubstr("remote hosts stay unlabeled")));
  EXPECT_FALSE(settings_->has_invalid_files());
  config_.write("staged", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n");
  ASSERT_EQ(::chmod(config_.path("staged").c_str(), 0600), 0);
  std::filesystem::create_directory(config_.path("keys"));
  std::filesystem::rename(config_.path("staged"), config_.path("keys/psk"));
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!settings_->errors().empty() && std::chrono::steady_clock::now() < end) {
    sd_event_run(loop_, 20'000);
  }
  EXPECT_THAT(settings_->errors(), IsEmpty());
  EXPECT_TRUE(settings_->trust()->offered());
}

TEST_F(SettingsTest, OnlyInvalidFilesMakeAnotherStartUseless) {
  const auto has_invalid_files = [this] {
    const auto opened = Settings::open(config_.path(), run_.path());
    EXPECT_EQ(opened->policy(), nullptr);
    EXPECT_THAT(opened->errors(), ::testing::Not(IsEmpty()));
    return opened->has_invalid_files();
  };
  config_.write("policy.toml", kWrong);
  EXPECT_TRUE(has_invalid_files());
  config_.write("identity.toml", "[trust]\npsk_file = \"psk\"\n");
  EXPECT_TRUE(has_invalid_files()) << "whatever is wrong with the keys";
  config_.write("policy.toml", "");
  std::filesystem::create_directory(config_.path("policy.d"));
  std::filesystem::create_symlink(config_.path("late/a.toml"), config_.path("policy.d/a.toml"));
  EXPECT_FALSE(has_invalid_files()) << "the target may be mounted later";
  EXPECT_FALSE(Settings::open(config_.path("missing"), run_.path())->has_invalid_files());
}

constexpr const char* kExpiring =
    "[[allow]]\nfrom = \"app=web\"\nto = \"app=db\"\nuntil = 2030-01-01T00:00:00Z\n"
    "[[deny]]\nname = \"incident\"\nfrom = \"app=x\"\nto = \"*\"\n"
    "until = 2030-01-01T00:00:10Z\n";
constexpr std::chrono::sys_days k2030(std::chrono::year(2030) / 1 / 1);

TEST_F(SettingsTest, RulesExpireAtTheirTime) {
  using std::chrono::milliseconds;
  using std::chrono::seconds;
  now_ = k2030 - milliseconds(1500);
  config_.write("policy.toml", kExpiring);
  open();
  const auto digest = settings_->policy()->digest;
  ASSERT_TRUE(settings_->look_at_clock());
  EXPECT_THAT(applied_, IsEmpty()) << "nothing has expired";
  EXPECT_EQ(settings_->time_left(), milliseconds(1500));
  EXPECT_EQ(settings_->rule_time().clock, k2030 - seconds(2)) << "of the same clock, whole seconds";

  now_ = k2030 - milliseconds(1);
  ASSERT_TRUE(settings_->look_at_clock());
  EXPECT_THAT(applied_, IsEmpty());
  now_ = k2030;
  ASSERT_TRUE(settings_->look_at_clock());
  EXPECT_THAT(applied_, ElementsAre(1U));
  EXPECT_THAT(settings_->policy()->rules, SizeIs(1));
  EXPECT_THAT(settings_->whole_policy().rules, SizeIs(2));
  EXPECT_EQ(settings_->policy()->digest, digest) << "that of the files";
  EXPECT_EQ(settings_->generation(), 1U) << "the files are the same";
  EXPECT_THAT(settings_->warnings(),
              ElementsAre("policy.toml:1:1: warning: this rule expired at 2030-01-01T00:00:00Z and "
                          "is not in force; remove it"));
  EXPECT_EQ(settings_->time_left(), seconds(10));

  now_ = k2030 + seconds(10);
  ASSERT_TRUE(settings_->look_at_clock());
  ASSERT_TRUE(settings_->look_at_clock());
  EXPECT_THAT(applied_, ElementsAre(1U, 0U)) << "once for each";
  EXPECT_THAT(settings_->warnings(), SizeIs(2));
  EXPECT_FALSE(settings_->time_left());

  now_ = k2030 - seconds(5);
  ASSERT_TRUE(settings_->look_at_clock());
  EXPECT_THAT(applied_, ElementsAre(1U, 0U, 1U)) << "the deny rule is back, the allow rule is not";
  EXPECT_EQ(settings_->policy()->rules.front().action, policy::Rule::Action::deny);
  EXPECT_THAT(settings_->warnings(),
              ElementsAre(HasSubstr("the clock was later than its 'until', 2030-01-01T00:00:00Z")));
}

TEST_F(SettingsTest, AClockThatIsBehindAfterABootBringsNoAllowRuleBack) {
  const auto boot = [this] {
    settings_ = Settings::open(
        config_.path(), run_.path(), [this] { return now_; }, LatestTime(run_.path("latest-time")));
    return settings_->policy()->rules;
  };
  config_.write("policy.toml", kExpiring);
  now_ = k2030 - std::chrono::seconds(1);
  EXPECT_THAT(boot(), SizeIs(2));
  now_ = k2030;
  ASSERT_TRUE(settings_->look_at_clock());
  ASSERT_TRUE(settings_->keep_latest_time());
  now_ = std::chrono::sys_days(std::chrono::year(1970) / 1 / 2);
  const auto rules = boot();
  ASSERT_THAT(rules, SizeIs(1));
  EXPECT_EQ(rules[0].action, policy::Rule::Action::deny) << "it cannot have expired for good";
  EXPECT_THAT(settings_->warnings(), SizeIs(1));
  ASSERT_TRUE(settings_->keep_latest_time());
  EXPECT_THAT(boot(), SizeIs(1)) << "the time that is kept does not go back";
}

TEST(LatestTimeTest, IsWrittenRarely) {
  using std::chrono::seconds;
  config::TemporaryDirectory directory;
  int writes = 0;
  LatestTime latest(directory.path("latest-time"), Disk([&writes](const std::string& change) {
                      writes += change.starts_with("create") ? 1 : 0;
                      return Status{};
                    }));
  EXPECT_TRUE(latest.found());
  latest.see(k2030);
  ASSERT_TRUE(latest.keep(seconds(300)));
  EXPECT_EQ(writes, 1);
  latest.see(k2030 + seconds(299));
  latest.see(k2030 - seconds(1000));
  ASSERT_TRUE(latest.keep(seconds(300)));
  EXPECT_EQ(writes, 1);
  latest.see(k2030 + seconds(300));
  ASSERT_TRUE(latest.keep(seconds(300)));
  EXPECT_EQ(writes, 2);
  EXPECT_EQ(LatestTime(directory.path("latest-time")).latest(), k2030 + seconds(300));
}

TEST(LatestTimeTest, ADamagedFileIsAnErrorAndIsReplaced) {
  config::TemporaryDirectory directory;
  for (const char* text : {"", "\n", "12", "12 \n", "x\n", "-1\n", "99999999999999\n"}) {
    directory.write("latest-time", text);
    LatestTime latest(directory.path("latest-time"));
    EXPECT_FALSE(latest.found()) << text;
    latest.see(k2030);
    ASSERT_TRUE(latest.keep(std::chrono::seconds(300)));
    EXPECT_EQ(LatestTime(directory.path("latest-time")).latest(), k2030);
  }
  LatestTime none;
  none.see(k2030);
  EXPECT_TRUE(none.keep(std::chrono::seconds(0))) << "without a state directory";
}

TEST_F(SettingsTest, ExpiredRulesAreNotLoaded) {
  now_ = k2030 + std::chrono::seconds(1);
  config_.write("policy.toml", kExpiring);
  open();
  EXPECT_THAT(settings_->errors(), IsEmpty());
  EXPECT_THAT(settings_->policy()->rules, SizeIs(1));
  EXPECT_THAT(settings_->warnings(), ElementsAre(HasSubstr("this rule expired at")));
  save("policy.toml", std::string(kExpiring) + kOneRule);
  ASSERT_TRUE(settings_->reload());
  EXPECT_THAT(applied_, ElementsAre(2U));
}

// An allow rule that has expired must not stay in force because the kernel was out of memory once.
TEST_F(SettingsTest, AnExpiryThatFailsIsTriedAgain) {
  now_ = k2030 - std::chrono::seconds(1);
  config_.write("policy.toml", kExpiring);
  open();
  now_ = k2030;
  refuse_ = true;
  EXPECT_FALSE(settings_->look_at_clock());
  EXPECT_THAT(settings_->policy()->rules, SizeIs(2));
  EXPECT_FALSE(settings_->look_at_clock());
  refuse_ = false;
  EXPECT_TRUE(settings_->look_at_clock());
  EXPECT_THAT(settings_->policy()->rules, SizeIs(1));
}

TEST_F(SettingsTest, ADenyRuleIsAnnouncedAnHourBefore) {
  std::ostringstream log;
  const auto logger = spdlog::default_logger();
  spdlog::set_default_logger(std::make_shared<spdlog::logger>(
      "test", std::make_shared<spdlog::sinks::ostream_sink_st>(log)));
  const auto lines = [&log](const std::string& text) {
    std::size_t count = 0;
    for (std::size_t at = log.str().find(text); at != std::string::npos;
         at = log.str().find(text, at + 1)) {
      ++count;
    }
    return count;
  };
  now_ = k2030 - std::chrono::hours(1);
  config_.write("policy.toml", kExpiring);
  open();
  EXPECT_EQ(lines("expires at"), 0U) << "10 s too early, and an allow rule opens nothing";
  now_ += std::chrono::seconds(10);
  ASSERT_TRUE(settings_->look_at_clock());
  ASSERT_TRUE(settings_->look_at_clock());
  EXPECT_EQ(lines("deny 'incident' (policy.toml:5:1) expires at 2030-01-01T00:00:10Z"), 1U);
  open();
  EXPECT_EQ(lines("expires at"), 2U) << "a start within the hour says so too";
  for (const std::size_t before : {2U, 3U}) {
    now_ = k2030 - std::chrono::hours(2);
    ASSERT_TRUE(settings_->look_at_clock());
    EXPECT_EQ(lines("expires at"), before);
    now_ = k2030 - std::chrono::minutes(30);
    ASSERT_TRUE(settings_->look_at_clock());
    ASSERT_TRUE(settings_->look_at_clock());
    EXPECT_EQ(lines("expires at"), before + 1) << "the clock was wrong before";
    now_ = k2030 + std::chrono::hours(1);
    ASSERT_TRUE(settings_->look_at_clock());
  }
  spdlog::set_default_logger(logger);
}

class LastGood : public ::testing::Test {
 protected:
  [[nodiscard]] std::string file() const { return run_.path("last-good.json"); }
  config::TemporaryDirectory run_;
};

TEST_F(LastGood, IsWhatWasKept) {
  const std::vector<config::Source> policy = {{"policy.toml", kOneRule},
                                              {"policy.d/x.toml", "# \xC3\xA4 \"quoted\"\n"}};
  const std::vector<config::Source> identity = {{"identity.toml", "[host]\nname = \"here\"\n"}};
  ASSERT_TRUE(keep_last_good(run_.path(), {policy, identity}));
  struct stat info {};
  ASSERT_EQ(::stat(file().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 0600U);
  const auto read = read_last_good(run_.path());
  ASSERT_TRUE(read);
  EXPECT_THAT(read->policy.rules, SizeIs(1));
  EXPECT_EQ(read->host.name, "here");
}

TEST_F(LastGood, ALaterOneReplacesIt) {
  config::FileSet files{.policy = {{"policy.toml", kOneRule}}, .identity = {}};
  ASSERT_TRUE(keep_last_good(run_.path(), files));
  files.policy = {{"policy.toml", std::string(kOneRule) + kOneRule}};
  ASSERT_TRUE(keep_last_good(run_.path(), files));
  EXPECT_THAT(read_last_good(run_.path())->policy.rules, SizeIs(2));
  EXPECT_FALSE(keep_last_good(run_.path("missing"), files));
}

TEST_F(LastGood, IsNoneWhereItCannotBeRead) {
  EXPECT_FALSE(read_last_good(run_.path())) << "the file does not exist";
  for (const char* content :
       {"", "nonsense", "[]", "{}", R"({"policy":[]})", R"({"policy":1,"identity":[]})",
        R"({"policy":[{"file":"policy.toml"}],"identity":[]})",
        R"({"policy":[{"file":1,"content":""}],"identity":[]})",
        R"({"policy":[{"file":"policy.toml","content":"form = 1"}],"identity":[]})"}) {
    run_.write("last-good.json", content);
    EXPECT_FALSE(read_last_good(run_.path())) << content;
  }
  run_.write("last-good.json", R"({"policy":[],"identity":[]})");
  EXPECT_TRUE(read_last_good(run_.path())) << "a configuration without files is valid";
}

}  // namespace
}  // namespace trireme::daemon
