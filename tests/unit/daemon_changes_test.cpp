// SPDX-License-Identifier: Apache-2.0
// policy apply, confirm and rollback: what is on disk and in force after each, and after a crash or
// a full disk at every moment.
#include "../../src/daemon/changes.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <systemd/sd-event.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "config_support.hpp"

namespace trireme::daemon {
namespace {

using config::FileSet;
using std::chrono::seconds;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr const char* kRule = "[[allow]]\nfrom = \"app=web\"\nto = \"app=db\"\n";
constexpr const char* kWrong = "[[allow]]\nform = \"app=web\"\nto = \"app=db\"\n";
constexpr const char* kSecret =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n";

const FileSet kOld = {.policy = {{"policy.toml", kRule}, {"policy.d/10-old.toml", "# old\n"}},
                      .identity = {{"identity.toml", "[trust]\npsk_file = \"psk\"\n"}}};
const FileSet kNew = {
    .policy = {{"policy.toml", std::string(kRule) + kRule}, {"policy.d/20-new.toml", "# new\n"}},
    .identity = {{"identity.toml", "[trust]\npsk_file = \"psk\"\n# new\n"}}};
const FileSet kNext = {.policy = {{"policy.toml", "# next\n"}}, .identity = kOld.identity};

struct Crash {};

class ChangesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_GE(sd_event_new(&loop_), 0);
    level_ = spdlog::get_level();
    spdlog::set_level(spdlog::level::off);
    put(kOld);
    config_.write("psk", kSecret);
    ASSERT_EQ(::chmod(config_.path("psk").c_str(), 0600), 0);
    start();
  }
  void TearDown() override {
    end();
    sd_event_unref(loop_);
    spdlog::set_level(level_);
  }

  /// Saves files as a person does.
  void put(const FileSet& files) {
    ASSERT_TRUE(config::replace_files(Disk{}, config_.path(), files));
  }
  void save(const std::string& name, const std::string& content) {
    ASSERT_TRUE(replace_file(config_.path(name), content, 0644));
  }

  /// The end of the daemon, by a crash or not.
  void end() {
    settings_.reset();
    changes_.reset();
  }
  /// A start of the daemon.
  void start() {
    end();
    problems_ = Problems();
    changes_ = std::make_unique<Changes>(
        state_.path("state"), config_.path() + spelling_, problems_,
        Disk([this](const std::string& change) { return before(change); }),
        [this] { return now_; });
    const auto instead = changes_->open(run_.path());
    ASSERT_TRUE(instead) << instead.error().text();
    settings_ = *instead ? Settings::open_instead(config_.path(), run_.path(), (*instead)->files,
                                                  (*instead)->reason)
                         : Settings::open(config_.path(), run_.path());
    ASSERT_NE(settings_->policy(), nullptr);
    ASSERT_TRUE(settings_->follow(
        loop_,
        [this](auto policy, auto /*host*/, auto /*trust*/) {
          if (!refuse_) {
            applied_.push_back(policy->rules.size());
          }
          return refuse_ ? fail("the kernel said no") : Status{};
        },
        [this] {
          ++outcomes_;
          changes_->note_load();
        }));
    changes_->follow(*settings_);
  }

  /// The disk: the change with the number fail_at_ or crash_at_ fails; with full_, every one that
  /// needs space does.
  Status before(const std::string& change) {
    if (meanwhile_ && change.find(".trireme-new") != std::string::npos) {
      std::exchange(meanwhile_, nullptr)();
    }
    if (on_change_) {
      on_change_(change);
    }
    const int number = count_++;
    if (number == crash_at_) {
      throw Crash{};
    }
    return number == fail_at_ || (full_ && change.starts_with("create"))
               ? fail("No space left on device")
               : Status{};
  }
  void repair_disk() {
    count_ = 0;
    crash_at_ = fail_at_ = -1;
    full_ = false;
  }

  /// A tick with a crash before the change with this number, and then a start of the daemon. False
  /// if there are fewer changes, so that nothing crashes.
  bool crashes_in_tick(int number) {
    count_ = 0;
    crash_at_ = number;
    bool crashed = false;
    try {
      changes_->tick();
    } catch (const Crash&) {
      crashed = true;
    }
    repair_disk();
    if (crashed) {
      start();
    }
    return crashed;
  }

  /// What trirectl does before it asks the daemon.
  Changes::Request stage(const FileSet& files, seconds confirm) {
    const std::string place = Changes::staged_dir(changes_->state_dir()) + "/abc";
    std::filesystem::remove_all(place);
    std::filesystem::create_directories(place);
    EXPECT_TRUE(config::write_files(Disk{}, place, files));
    return {.staged = "abc",
            .files = digests_of(files),
            .over = digests_of(settings_->files()),
            .user = "alice",
            .confirm = confirm};
  }
  Status apply(const FileSet& files, seconds confirm = {}) {
    return changes_->apply(stage(files, confirm));
  }
  /// Lets the event loop run: changes on disk cause reloads.
  void run_loop(std::chrono::milliseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < end) {
      sd_event_run(loop_, 20'000);
    }
  }
  [[nodiscard]] bool await(const std::function<bool()>& condition) {
    const auto end = std::chrono::steady_clock::now() + seconds(10);
    while (!condition() && std::chrono::steady_clock::now() < end) {
      sd_event_run(loop_, 20'000);
    }
    return condition();
  }

  [[nodiscard]] config::Digests on_disk() const {
    return digests_of(files_of(config::load(config_.path(), config::KeyFiles::optional)));
  }
  [[nodiscard]] config::Digests in_force() const { return digests_of(settings_->files()); }
  [[nodiscard]] bool is_pending_on_disk() const {
    return std::filesystem::exists(state_.path("state/pending.json"));
  }
  /// The files on disk and the policy in force are those of `files`, and no change is under way.
  void expect_settled(const FileSet& files, const std::string& note = "") const {
    EXPECT_EQ(in_force(), digests_of(files)) << note;
    EXPECT_EQ(on_disk(), digests_of(files)) << note;
    EXPECT_FALSE(is_pending_on_disk()) << note;
    EXPECT_FALSE(changes_->waiting()) << note;
    EXPECT_THAT(problems_.lines(), IsEmpty()) << note;
    EXPECT_EQ(read_file(config_.path("psk")).value(), kSecret) << "keys are never touched";
    for (const auto& entry : std::filesystem::recursive_directory_iterator(config_.path())) {
      EXPECT_FALSE(entry.path().filename().string().starts_with('.')) << entry.path() << note;
    }
  }
  [[nodiscard]] std::string newest() const {
    const auto& entry = changes_->history().entries().front();
    return entry.how + " " + entry.user + (entry.digests == in_force() ? "" : " not in force");
  }

  config::TemporaryDirectory config_;
  config::TemporaryDirectory run_;
  config::TemporaryDirectory state_;
  sd_event* loop_ = nullptr;
  Problems problems_;
  std::unique_ptr<Changes> changes_;
  std::unique_ptr<Settings> settings_;
  std::chrono::nanoseconds now_ = seconds(1000);
  std::vector<std::size_t> applied_;  // number of rules of each policy that was put in force
  unsigned outcomes_ = 0;
  std::string spelling_;  // behind the path of the configuration directory
  bool refuse_ = false;
  int count_ = 0;
  int crash_at_ = -1;
  int fail_at_ = -1;
  bool full_ = false;
  std::function<void()> meanwhile_;                    // called while new contents are written
  std::function<void(const std::string&)> on_change_;  // called before each change of the disk

 private:
  spdlog::level::level_enum level_ = spdlog::level::info;
};

TEST_F(ChangesTest, AnAppliedSetIsInForceInOneReload) {
  ASSERT_TRUE(apply(kNew));
  expect_settled(kNew);
  EXPECT_EQ(settings_->generation(), 2U);
  EXPECT_THAT(applied_, ElementsAre(2U));
  EXPECT_EQ(newest(), "apply alice");
  EXPECT_FALSE(std::filesystem::exists(Changes::staged_dir(changes_->state_dir())));
  run_loop(std::chrono::milliseconds(600));
  EXPECT_EQ(settings_->generation(), 2U) << "what it wrote itself causes no reload";
  save("policy.toml", kRule);
  ASSERT_TRUE(await([&] { return settings_->generation() == 3; })) << "a save still does";
  start();
  EXPECT_EQ(settings_->policy()->rules.size(), 1U);
}

TEST_F(ChangesTest, WhatIsInForceIsNoChange) {
  ASSERT_TRUE(apply(kOld, seconds(60)));
  expect_settled(kOld);
  EXPECT_EQ(settings_->generation(), 1U);
}

// Scripts run 'apply --confirm' and 'confirm' whatever they find.
TEST_F(ChangesTest, WhatIsInForceForGoodCanBeConfirmed) {
  EXPECT_FALSE(changes_->confirm("alice")) << "nothing was applied";
  ASSERT_TRUE(apply(kOld, seconds(60)));
  EXPECT_TRUE(changes_->confirm("alice")) << "it was in force before";
  ASSERT_TRUE(apply(kNew, seconds(60)));
  ASSERT_TRUE(changes_->confirm("alice"));
  EXPECT_TRUE(changes_->confirm("alice")) << "it is confirmed";
  EXPECT_EQ(changes_->counts().at("confirmed"), 1U);
  save("policy.toml", "# by hand\n");
  ASSERT_TRUE(settings_->reload());
  EXPECT_FALSE(changes_->confirm("alice")) << "other files are in force";
}

TEST_F(ChangesTest, WhatWasRolledBackCannotBeConfirmed) {
  ASSERT_TRUE(apply(kOld, seconds(60)));
  ASSERT_TRUE(apply(kNew, seconds(60)));
  now_ += seconds(60);
  changes_->tick();
  expect_settled(kOld);
  EXPECT_FALSE(changes_->confirm("alice")) << "although kOld was applied before";
  ASSERT_TRUE(apply(kNew, seconds(60)));
  ASSERT_TRUE(changes_->rollback("", "bob"));
  EXPECT_FALSE(changes_->confirm("alice"));
  ASSERT_TRUE(apply(kNew));
  EXPECT_TRUE(changes_->confirm("alice"));
  ASSERT_TRUE(changes_->rollback("", "bob"));
  EXPECT_FALSE(changes_->confirm("alice"));
  refuse_ = true;
  ASSERT_FALSE(apply(kNew, seconds(60)));
  refuse_ = false;
  EXPECT_FALSE(changes_->confirm("alice")) << "the change has failed";
}

TEST_F(ChangesTest, WithoutAConfirmationItIsRolledBack) {
  ASSERT_TRUE(apply(kNew, seconds(60)));
  EXPECT_EQ(in_force(), digests_of(kNew));
  ASSERT_TRUE(changes_->waiting());
  EXPECT_EQ(changes_->waiting()->user, "alice");
  EXPECT_EQ(changes_->waiting()->left, seconds(60));
  EXPECT_EQ(changes_->waiting()->before, digests_of(kOld));
  now_ += seconds(59);
  changes_->tick();
  EXPECT_EQ(in_force(), digests_of(kNew));
  EXPECT_EQ(changes_->waiting()->left, seconds(1));
  now_ += seconds(1);
  changes_->tick();
  expect_settled(kOld);
  EXPECT_EQ(newest(), "rollback ");
  EXPECT_EQ(changes_->counts().at("expired"), 1U);
  run_loop(std::chrono::milliseconds(600));
  EXPECT_EQ(settings_->generation(), 3U);
  const Status late = changes_->confirm("alice");
  ASSERT_FALSE(late);
  EXPECT_THAT(late.error().message, HasSubstr("no change waits"));
}

TEST_F(ChangesTest, AConfirmationKeepsIt) {
  ASSERT_TRUE(apply(kNew, seconds(60)));
  now_ += seconds(59);
  ASSERT_TRUE(changes_->confirm("alice"));
  now_ += seconds(1000);
  changes_->tick();
  expect_settled(kNew);
  start();
  expect_settled(kNew);
}

TEST_F(ChangesTest, AConfirmationThatComesTooLateRollsBack) {
  ASSERT_TRUE(apply(kNew, seconds(60)));
  now_ += seconds(60);  // and no tick() yet
  const Status late = changes_->confirm("alice");
  ASSERT_FALSE(late);
  EXPECT_THAT(late.error().message, HasSubstr("too late"));
  expect_settled(kOld);
}

TEST_F(ChangesTest, FilesThatComeBackAreNoMoreReadableThanBefore) {
  const std::string removed = config_.path("policy.d/10-old.toml");
  const auto mode_of = [](const std::string& path) {
    struct stat status = {};
    return ::stat(path.c_str(), &status) == 0 ? status.st_mode & 07777U : 0U;
  };
  ASSERT_EQ(::chmod(removed.c_str(), 0600), 0);  // after it was loaded
  ASSERT_TRUE(apply(kNew, seconds(60)));
  EXPECT_EQ(mode_of(config_.path("policy.d/20-new.toml")), mode_of(config_.path("policy.toml")))
      << "not the mode of the staged copy";
  now_ += seconds(60);
  changes_->tick();
  EXPECT_EQ(mode_of(removed), 0600U);
  ASSERT_TRUE(apply(kNew, seconds(60)));
  start();
  EXPECT_EQ(mode_of(removed), 0600U) << "a start rolls back";
  ASSERT_TRUE(apply(kNew));
  ASSERT_TRUE(changes_->rollback("", "alice"));
  EXPECT_EQ(mode_of(removed), 0600U) << "from the history";
  expect_settled(kOld);
}

TEST_F(ChangesTest, AStartRollsBack) {
  ASSERT_TRUE(apply(kNew, seconds(60)));
  applied_.clear();
  start();
  expect_settled(kOld);
  EXPECT_EQ(settings_->generation(), 1U) << "the new policy was not loaded first";
  EXPECT_EQ(newest(), "rollback ");
  EXPECT_THAT(changes_->history().entries(),
              Contains(::testing::AllOf(
                  ::testing::Field(&config::History::Entry::digests, digests_of(kNew)),
                  ::testing::Field(&config::History::Entry::rolled_back, true))));
  EXPECT_FALSE(changes_->confirm("alice"));
}

TEST_F(ChangesTest, AStartRollsBackEvenIfKeysCannotBeUsed) {
  ASSERT_TRUE(apply(kNew, seconds(60)));
  config_.write("psk", "short");
  start();
  EXPECT_EQ(in_force(), digests_of(kOld));
  EXPECT_EQ(on_disk(), digests_of(kOld));
  EXPECT_THAT(settings_->errors(), Contains(HasSubstr("psk")));
}

TEST_F(ChangesTest, ATimeThatPassesRollsBackEvenIfKeysCannotBeUsed) {
  ASSERT_TRUE(apply(kNew, seconds(60)));
  config_.write("psk", "short");
  now_ += seconds(60);
  changes_->tick();
  EXPECT_EQ(in_force(), digests_of(kOld));
  EXPECT_EQ(on_disk(), digests_of(kOld));
  EXPECT_FALSE(is_pending_on_disk());
}

TEST_F(ChangesTest, RollbackEndsTheWait) {
  ASSERT_TRUE(apply(kNew, seconds(60)));
  const std::string old = digests_of(kOld).policy.substr(0, 16);
  for (const std::string& other : {std::string("ffff"), std::string(":ffff"), old + ":ffff"}) {
    EXPECT_FALSE(changes_->rollback(other, "bob")) << "another change while one waits: " << other;
  }
  ASSERT_TRUE(changes_->rollback("", "bob"));
  expect_settled(kOld);
  EXPECT_EQ(newest(), "rollback bob");
}

TEST_F(ChangesTest, OneChangeWaitsAtATime) {
  ASSERT_TRUE(apply(kNew, seconds(60)));
  now_ += seconds(18);
  Changes::Request other = stage(kNext, {});
  other.user = "bob";
  const Status refused = changes_->apply(other);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("by alice"));
  EXPECT_THAT(refused.error().message, HasSubstr("(42 s)"));
  EXPECT_THAT(refused.error().message, HasSubstr("until 20"));
  EXPECT_EQ(in_force(), digests_of(kNew));
}

TEST_F(ChangesTest, WhatWasNotComparedIsNotApplied) {
  const auto refused = [&](const Changes::Request& request, const char* why) {
    const Status applied = changes_->apply(request);
    ASSERT_FALSE(applied) << why;
    EXPECT_THAT(applied.error().text(), HasSubstr(why));
    expect_settled(kOld, why);
    EXPECT_EQ(settings_->generation(), 1U);
  };
  Changes::Request request = stage(kNew, {});
  request.files.policy = digests_of(kNext).policy;
  refused(request, "not the ones that were compared");
  request = stage(kNew, {});
  request.files.identity = std::string(64, '0');
  refused(request, "not the ones that were compared");
  request = stage(kNew, {});
  request.over.policy = digests_of(kNext).policy;
  refused(request, "has changed since the comparison");
  for (const char* name : {"", ".", "..", "../state", "abc/../abc", "/etc"}) {
    request = stage(kNew, {});
    request.staged = name;
    refused(request, "invalid name");
  }
  request = stage(kNew, {});
  request.staged = "other";
  refused(request, "no staged files");
  request = stage(kNew, seconds(100'000));
  refused(request, "at most 24 hours");
}

TEST_F(ChangesTest, InvalidFilesAreRefusedWithTheirPlace) {
  FileSet wrong = kNew;
  wrong.policy[0].content = kWrong;
  const Status applied = apply(wrong);
  ASSERT_FALSE(applied);
  EXPECT_THAT(applied.error().message, HasSubstr("policy.toml:2:1"));
  wrong = kNew;
  wrong.identity[0].content = "[trust]\npsk_file = \"missing\"\n";
  EXPECT_FALSE(apply(wrong)) << "keys are those of the configuration directory";
  expect_settled(kOld);
}

TEST_F(ChangesTest, ASaveThatIsNotInForceIsNotOverwritten) {
  save("policy.toml", kWrong);
  const Status applied = apply(kNew);
  ASSERT_FALSE(applied);
  EXPECT_THAT(applied.error().message, HasSubstr("not the ones in force"));
  EXPECT_EQ(read_file(config_.path("policy.toml")).value(), kWrong);
}

TEST_F(ChangesTest, AFileThatWasNotReadIsNotRemoved) {
  const std::string big = config_.path("policy.d/99-big.toml");
  save("policy.d/99-big.toml", std::string(config::kMaxFileBytes + 1, '#'));
  ASSERT_FALSE(settings_->reload());
  ASSERT_EQ(on_disk(), in_force()) << "no digest tells";
  for (const Status& refused :
       {apply(kNew), changes_->rollback(digests_of(kOld).policy.substr(0, 16), "alice")}) {
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("99-big.toml"));
  }
  EXPECT_TRUE(std::filesystem::exists(big));
  EXPECT_EQ(on_disk(), digests_of(kOld));
  EXPECT_FALSE(is_pending_on_disk());
}

TEST_F(ChangesTest, ASaveDuringAChangeStays) {
  meanwhile_ = [this] { save("policy.toml", "# by hand\n"); };
  const Status applied = apply(kNew, seconds(60));
  ASSERT_FALSE(applied);
  EXPECT_THAT(applied.error().message, HasSubstr("saved at the same moment"));
  EXPECT_EQ(in_force(), digests_of(kOld));
  ASSERT_TRUE(settings_->reload());
  FileSet saved = kOld;
  saved.policy[0].content = "# by hand\n";
  expect_settled(saved);
  EXPECT_EQ(newest(), "save ");
}

TEST_F(ChangesTest, ASaveDuringARollbackIsCopied) {
  ASSERT_TRUE(apply(kNew, seconds(60)));
  now_ += seconds(60);
  meanwhile_ = [this] { save("policy.toml", "# by hand\n"); };
  changes_->tick();
  EXPECT_EQ(in_force(), digests_of(kOld));
  EXPECT_EQ(read_file(config_.path("policy.toml")).value(), "# by hand\n");
  changes_->tick();
  expect_settled(kOld);
  EXPECT_EQ(read_file(state_.path("state/replaced/policy.toml")).value(), "# by hand\n");
}

TEST_F(ChangesTest, ASaveAfterTheFilesOfARollbackStays) {
  ASSERT_TRUE(apply(kNew, seconds(60)));
  now_ += seconds(60);
  on_change_ = [this](const std::string& change) {
    if (change.starts_with("remove") && change.ends_with("20-new.toml")) {  // after all renames
      save("policy.toml", "# by hand\n");
    }
  };
  changes_->tick();
  on_change_ = nullptr;
  FileSet saved = kOld;
  saved.policy[0].content = "# by hand\n";
  expect_settled(saved);
  EXPECT_EQ(newest(), "save ") << "and not recorded as a rollback";
  changes_->tick();
  expect_settled(saved);
  start();
  expect_settled(saved);
}

// A confirmation can remove the record and fail all the same.
TEST_F(ChangesTest, ARollbackWithoutARecordWritesItFirst) {
  int crash = 2;  // the first two changes write the record
  for (bool crashed = true; crashed; ++crash) {
    repair_disk();
    put(kOld);
    start();
    ASSERT_TRUE(apply(kNew, seconds(60)));
    std::filesystem::remove(state_.path("state/pending.json"));
    now_ += seconds(60);
    crashed = crashes_in_tick(crash);
    expect_settled(kOld, fmt::format("crash before change {}", crash));
  }
  EXPECT_GE(crash, 8);
}

TEST_F(ChangesTest, ARollbackReplacesAnInvalidSaveAndKeepsACopy) {
  save("policy.toml", kWrong);
  ASSERT_FALSE(settings_->reload());
  ASSERT_TRUE(changes_->rollback(digests_of(kOld).policy.substr(0, 16), "alice"));
  expect_settled(kOld);
  EXPECT_THAT(settings_->errors(), IsEmpty());
  EXPECT_EQ(read_file(state_.path("state/replaced/policy.toml")).value(), kWrong);
}

TEST_F(ChangesTest, LinksAreRefusedWithTheReason) {
  std::filesystem::rename(config_.path("policy.d"), config_.path("current"));
  std::filesystem::create_symlink("current", config_.path("policy.d"));
  const Status applied = apply(kNew);
  ASSERT_FALSE(applied);
  EXPECT_THAT(applied.error().message, HasSubstr("policy.d' is a symbolic link"));
  EXPECT_FALSE(is_pending_on_disk());
  EXPECT_EQ(in_force(), digests_of(kOld));
}

TEST_F(ChangesTest, WhatTheKernelRefusesChangesNothing) {
  refuse_ = true;
  const Status applied = apply(kNew, seconds(60));
  refuse_ = false;
  ASSERT_FALSE(applied);
  EXPECT_THAT(applied.error().message, HasSubstr("the kernel said no"));
  EXPECT_EQ(on_disk(), digests_of(kOld));
  EXPECT_EQ(in_force(), digests_of(kOld));
  EXPECT_FALSE(is_pending_on_disk());
  EXPECT_FALSE(changes_->waiting());
}

TEST_F(ChangesTest, AValidSaveEndsTheWaitAndStays) {
  ASSERT_TRUE(apply(kNew, seconds(60)));
  save("policy.toml", "# by hand\n");
  ASSERT_TRUE(await([&] { return settings_->policy()->rules.empty(); }));
  EXPECT_FALSE(changes_->waiting());
  EXPECT_FALSE(is_pending_on_disk());
  EXPECT_EQ(newest(), "save ");
  now_ += seconds(1000);
  changes_->tick();
  EXPECT_EQ(read_file(config_.path("policy.toml")).value(), "# by hand\n");
  start();
  EXPECT_EQ(read_file(config_.path("policy.toml")).value(), "# by hand\n");
}

TEST_F(ChangesTest, ARecordThatCannotBeRemovedIsRemovedLater) {
  ASSERT_TRUE(apply(kNew, seconds(60)));
  save("policy.toml", "# by hand\n");
  count_ = 0;
  fail_at_ = 0;  // the removal of the record
  ASSERT_TRUE(settings_->reload());
  EXPECT_FALSE(changes_->waiting());
  EXPECT_TRUE(is_pending_on_disk());
  EXPECT_THAT(problems_.lines(), Contains(HasSubstr("the next start would roll back")));
  repair_disk();
  changes_->tick();
  EXPECT_FALSE(is_pending_on_disk());
  EXPECT_THAT(problems_.lines(), IsEmpty());
  start();
  EXPECT_EQ(read_file(config_.path("policy.toml")).value(), "# by hand\n");
}

TEST_F(ChangesTest, AnInvalidSaveDoesNotEndTheWait) {
  ASSERT_TRUE(apply(kNew, seconds(60)));
  save("policy.toml", kWrong);
  ASSERT_TRUE(await([&] { return !settings_->errors().empty(); }));
  EXPECT_EQ(in_force(), digests_of(kNew));
  EXPECT_TRUE(changes_->waiting());
  now_ += seconds(60);
  changes_->tick();
  expect_settled(kOld);
  EXPECT_EQ(read_file(state_.path("state/replaced/policy.toml")).value(), kWrong);
}

TEST_F(ChangesTest, ARollbackThatIsRepeatedKeepsTheCopy) {
  ASSERT_TRUE(apply(kNew, seconds(60)));
  save("policy.toml", kWrong);
  save("policy.d/20-new.toml", "# by hand\n");
  ASSERT_FALSE(settings_->reload());
  now_ += seconds(60);
  // One write after the other fails: also those after one of the two files was replaced.
  for (int failed = 0;; ++failed) {
    count_ = 0;
    fail_at_ = failed;
    changes_->tick();
    EXPECT_EQ(in_force(), digests_of(kOld)) << failed;
    if (count_ <= failed) {
      break;
    }
  }
  repair_disk();
  problems_.note("policy history", {});
  expect_settled(kOld);
  EXPECT_EQ(read_file(state_.path("state/replaced/policy.toml")).value(), kWrong);
  EXPECT_EQ(read_file(state_.path("state/replaced/policy.d/20-new.toml")).value(), "# by hand\n");
}

TEST_F(ChangesTest, NewKeysAndReloadsDoNotEndTheWait) {
  ASSERT_TRUE(apply(kNew, seconds(60)));
  save("psk", std::string("f") + (kSecret + 1));
  ASSERT_EQ(::chmod(config_.path("psk").c_str(), 0600), 0);
  ASSERT_TRUE(settings_->reload());
  EXPECT_TRUE(changes_->waiting());
  save("psk", kSecret);
  ASSERT_EQ(::chmod(config_.path("psk").c_str(), 0600), 0);
  now_ += seconds(60);
  changes_->tick();
  expect_settled(kOld);
}

TEST_F(ChangesTest, TheHistoryHasEveryWay) {
  EXPECT_EQ(newest(), "start ");
  start();
  EXPECT_THAT(changes_->history().entries(), SizeIs(1)) << "a restart is no change";
  save("policy.toml", "# by hand\n");
  ASSERT_TRUE(settings_->reload());
  EXPECT_EQ(newest(), "save ");
  ASSERT_TRUE(apply(kNew));
  EXPECT_EQ(newest(), "apply alice");
  ASSERT_TRUE(changes_->rollback("", "bob"));
  EXPECT_EQ(newest(), "rollback bob");
  EXPECT_EQ(read_file(config_.path("policy.toml")).value(), "# by hand\n");
  ASSERT_TRUE(changes_->rollback("", "bob")) << "further back, not forward again";
  expect_settled(kOld);
  ASSERT_TRUE(changes_->rollback(digests_of(kNew).policy.substr(0, 8), "bob"));
  expect_settled(kNew);
  end();
  put(kNext);
  start();
  EXPECT_EQ(newest(), "start ") << "saved while the daemon was down";
}

TEST_F(ChangesTest, ARollbackNeedsAKnownAndValidConfiguration) {
  const Status none = changes_->rollback("", "alice");
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().message, HasSubstr("no configuration before"));
  const Status unknown = changes_->rollback("0123", "alice");
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().hint, HasSubstr(digests_of(kOld).policy.substr(0, 16)));
  FileSet keyless = kNew;
  keyless.identity = {};
  ASSERT_TRUE(apply(keyless));
  std::filesystem::remove(config_.path("psk"));
  const Status keys = changes_->rollback("", "alice");
  ASSERT_FALSE(keys);
  EXPECT_THAT(keys.error().message, HasSubstr("psk"));
  EXPECT_EQ(in_force(), digests_of(keyless));
}

TEST_F(ChangesTest, ACrashBetweenAnyTwoWritesLeavesOldOrNew) {
  for (const seconds confirm : {seconds(0), seconds(60)}) {
    int crash = 0;
    for (bool crashed = true; crashed; ++crash) {
      repair_disk();
      put(kOld);
      start();
      const Changes::Request request = stage(kNew, confirm);
      count_ = 0;
      crash_at_ = crash;
      crashed = false;
      try {
        ASSERT_TRUE(changes_->apply(request));
      } catch (const Crash&) {
        crashed = true;
      }
      repair_disk();
      const std::string note = fmt::format("crash before change {}", crash);
      if (crashed || confirm.count() > 0) {
        start();
        const bool is_new = confirm.count() == 0 && in_force() == digests_of(kNew);
        expect_settled(is_new ? kNew : kOld, note);
        EXPECT_EQ(settings_->generation(), 1U) << note << ": nothing else was loaded before";
        ASSERT_TRUE(apply(kNext)) << note;
        expect_settled(kNext, note);
      } else {
        expect_settled(kNew, note);
      }
    }
    EXPECT_GE(crash, 10);
  }
}

TEST_F(ChangesTest, ACrashWhileAStartRollsBackIsRepairedByTheNext) {
  for (int crash = 0;; ++crash) {
    repair_disk();
    put(kOld);
    start();
    ASSERT_TRUE(apply(kNew, seconds(60)));
    end();
    count_ = 0;
    crash_at_ = crash;
    try {
      start();
      EXPECT_GE(crash, 6);
      expect_settled(kOld);
      return;
    } catch (const Crash&) {
      repair_disk();
    }
    start();
    expect_settled(kOld, fmt::format("crash before change {}", crash));
  }
}

TEST_F(ChangesTest, ACrashWhileTheTimePassesIsRepairedByTheNextStart) {
  int crash = 0;
  for (bool crashed = true; crashed; ++crash) {
    repair_disk();
    put(kOld);
    start();
    ASSERT_TRUE(apply(kNew, seconds(60)));
    now_ += seconds(60);
    crashed = crashes_in_tick(crash);
    expect_settled(kOld, fmt::format("crash before change {}", crash));
  }
  EXPECT_GE(crash, 6);
}

TEST_F(ChangesTest, AFailedWriteAtAnyMomentLeavesOldOrNew) {
  int failed = 0;
  for (bool again = true; again; ++failed) {
    repair_disk();
    put(kOld);
    start();
    const Changes::Request request = stage(kNew, {});
    count_ = 0;
    fail_at_ = failed;
    const Status applied = changes_->apply(request);
    again = count_ > failed;
    const std::string note = fmt::format("change {} failed", failed);
    repair_disk();
    changes_->tick();  // repeats what has failed
    problems_.note("policy history", {});
    expect_settled(applied ? kNew : kOld, note);
  }
  EXPECT_GE(failed, 10);
}

TEST_F(ChangesTest, AnEntryThatCannotBeMarkedIsAProblem) {
  bool again = true;
  int unmarked = 0;
  for (int failed = 0; again; ++failed) {
    repair_disk();
    put(kOld);
    start();
    ASSERT_TRUE(apply(kNew, seconds(60)));
    now_ += seconds(60);
    count_ = 0;
    fail_at_ = failed;
    changes_->tick();
    again = count_ > failed;
    repair_disk();
    changes_->tick();
    const auto& entries = changes_->history().entries();
    const bool is_marked = std::ranges::any_of(entries, [](const config::History::Entry& entry) {
      return entry.digests == digests_of(kNew) && entry.rolled_back;
    });
    if (!is_marked) {
      ++unmarked;
      EXPECT_THAT(problems_.lines(), Contains(HasSubstr("policy history"))) << failed;
    }
  }
  EXPECT_GE(unmarked, 1);
}

TEST_F(ChangesTest, AFullDiskRefusesTheChange) {
  full_ = true;
  EXPECT_FALSE(apply(kNew));
  full_ = false;
  expect_settled(kOld);
  ASSERT_TRUE(apply(kNew));
}

TEST_F(ChangesTest, AFullDiskDoesNotKeepThePolicyInForce) {
  ASSERT_TRUE(apply(kNew, seconds(60)));
  full_ = true;
  now_ += seconds(60);
  changes_->tick();
  EXPECT_EQ(in_force(), digests_of(kOld)) << "in force, although not on disk";
  EXPECT_EQ(on_disk(), digests_of(kNew));
  EXPECT_THAT(problems_.lines(), Contains(HasSubstr("No space left")));
  EXPECT_THAT(settings_->errors(), Contains(HasSubstr("cannot restore")));
  EXPECT_FALSE(settings_->reload()) << "the files on disk are not loaded";
  EXPECT_FALSE(apply(kNext)) << "not before the rollback is complete";
  EXPECT_EQ(in_force(), digests_of(kOld));
  start();
  EXPECT_EQ(in_force(), digests_of(kOld)) << "nor by a start";
  EXPECT_EQ(on_disk(), digests_of(kNew));
  repair_disk();
  changes_->tick();
  expect_settled(kOld);
  EXPECT_THAT(settings_->errors(), IsEmpty());
  EXPECT_EQ(newest(), "rollback ");
}

TEST_F(ChangesTest, WithADamagedRecordTheConfigurationBeforeIsInForce) {
  ASSERT_TRUE(apply(kNew, seconds(60)));
  for (const char* text : {"", "{", "[]", R"({"directory": 1})"}) {
    end();
    ASSERT_TRUE(write_file(state_.path("state/pending.json"), text));
    start();
    EXPECT_THAT(problems_.lines(), Contains(HasSubstr("pending.json"))) << text;
    EXPECT_EQ(in_force(), digests_of(kOld)) << "nobody has confirmed the files on disk";
    EXPECT_EQ(on_disk(), digests_of(kNew));
    EXPECT_TRUE(is_pending_on_disk()) << "the next start decides in the same way";
    EXPECT_THAT(settings_->errors(), Contains(HasSubstr("not confirmed")));
  }
  ASSERT_TRUE(settings_->reload()) << "somebody wants the files on disk";
  expect_settled(kNew);
  EXPECT_TRUE(std::filesystem::exists(state_.path("state/pending.json.damaged")));
  start();
  expect_settled(kNew);
}

TEST_F(ChangesTest, ARollbackReplacesADamagedRecord) {
  ASSERT_TRUE(apply(kNew, seconds(60)));
  end();
  ASSERT_TRUE(write_file(state_.path("state/pending.json"), "{"));
  start();
  const std::string old = digests_of(kOld).policy.substr(0, 16);
  full_ = true;
  EXPECT_FALSE(changes_->rollback(old, "alice"));
  EXPECT_TRUE(is_pending_on_disk());
  repair_disk();
  ASSERT_TRUE(changes_->rollback(old, "alice"));
  expect_settled(kOld);
}

TEST_F(ChangesTest, FilesOfAnUnfinishedChangeAreNotEnforcedWithoutItsRecord) {
  end();
  save("policy.toml", kNew.policy[0].content);  // one of the new files, and the other old ones
  ASSERT_TRUE(write_file(state_.path("state/pending.json"), "{"));
  start();
  EXPECT_EQ(in_force(), digests_of(kOld));
  // The daemon ended before the first file changed.
  end();
  put(kOld);
  start();
  EXPECT_EQ(in_force(), digests_of(kOld));
  EXPECT_THAT(settings_->errors(), IsEmpty());
  EXPECT_THAT(problems_.lines(), Contains(HasSubstr("are used as they are")));
}

TEST_F(ChangesTest, TheDirectoryOfARecordCanBeWrittenInOtherWays) {
  for (const char* spelling : {"/", "/.", "/policy.d/.."}) {
    put(kOld);
    start();
    ASSERT_TRUE(apply(kNew, seconds(60)));
    spelling_ = spelling;
    start();
    expect_settled(kOld, spelling);
    spelling_ = "";
  }
}

TEST_F(ChangesTest, ARecordOfAnotherDirectoryStays) {
  config::TemporaryDirectory other;
  ASSERT_TRUE(apply(kNew, seconds(60)));
  std::string record = read_file(state_.path("state/pending.json")).value();
  record.replace(record.find(config_.path()), config_.path().size(), other.path());
  end();
  ASSERT_TRUE(write_file(state_.path("state/pending.json"), record));
  start();
  EXPECT_EQ(in_force(), digests_of(kNew));
  EXPECT_THAT(settings_->errors(), IsEmpty());
  EXPECT_THAT(problems_.lines(), Contains(HasSubstr(other.path())));
  const Status applied = apply(kNext);
  ASSERT_FALSE(applied) << "it would replace the record";
  EXPECT_THAT(applied.error().message, HasSubstr(other.path()));
  ASSERT_TRUE(settings_->reload());
  EXPECT_EQ(read_file(state_.path("state/pending.json")).value(), record);
}

TEST_F(ChangesTest, AStateDirectoryHasOneDaemon) {
  Changes second(state_.path("state"), config_.path(), problems_);
  const auto opened = second.open(run_.path());
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().hint, HasSubstr("--state-dir"));
}

TEST_F(ChangesTest, WithoutAStateDirectoryPolicyIsEnforcedAndChangesFail) {
  end();
  std::filesystem::remove_all(state_.path("state"));
  state_.write("state", "a file\n");
  start();
  EXPECT_EQ(in_force(), digests_of(kOld));
  EXPECT_THAT(problems_.lines(), Contains(HasSubstr("policy history")));
  const Status rolled_back = changes_->rollback("", "alice");
  ASSERT_FALSE(rolled_back);
  EXPECT_THAT(rolled_back.error().message, HasSubstr("state directory"));
}

TEST_F(ChangesTest, AStateDirectoryOfOthersIsNotUsed) {
  ASSERT_TRUE(apply(kNew, seconds(60)));
  end();
  ASSERT_EQ(::chmod(state_.path("state").c_str(), 0770), 0);
  std::filesystem::rename(state_.path("state/history"), state_.path("elsewhere"));
  std::filesystem::create_symlink(state_.path("elsewhere"), state_.path("state/history"));
  state_.write("elsewhere/a", "not of the history\n");
  start();
  EXPECT_EQ(in_force(), digests_of(kNew)) << "the record can be anybody's";
  EXPECT_THAT(problems_.lines(), Contains(HasSubstr("written by other users")));
  save("policy.toml", "# by hand\n");
  ASSERT_TRUE(settings_->reload());
  EXPECT_TRUE(std::filesystem::exists(state_.path("elsewhere/a"))) << "nothing is removed";
  EXPECT_THAT(problems_.lines(), Contains(HasSubstr("written by other users")));
  const Status applied = apply(kNext);
  ASSERT_FALSE(applied);
  EXPECT_THAT(applied.error().message, HasSubstr("written by other users"));
}

TEST_F(ChangesTest, TheStateIsForRootAlone) {
  ASSERT_TRUE(apply(kNew, seconds(60)));
  struct stat status = {};
  ASSERT_EQ(::stat(state_.path("state").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0700U);
  ASSERT_EQ(::stat(state_.path("state/pending.json").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0600U);
}

}  // namespace
}  // namespace trireme::daemon
