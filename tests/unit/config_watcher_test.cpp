// SPDX-License-Identifier: Apache-2.0
#include "trireme/config/watcher.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "config_support.hpp"

namespace trireme::config {
namespace {

namespace fs = std::filesystem;

// inotify queues an event before the system call that causes it returns, so no test needs to wait.
class Watch : public testing::Test {
 protected:
  void open() {
    watcher_.emplace(Watcher::open(config_));
    ASSERT_FALSE(watcher_->problem()) << watcher_->problem()->text();
    EXPECT_FALSE(changed()) << "no change yet";
  }
  bool changed() {
    const bool changed = watcher_->drain();
    EXPECT_FALSE(watcher_->problem());
    return changed;
  }
  [[nodiscard]] bool readable() const {
    pollfd poll{watcher_->fd(), POLLIN, 0};
    return ::poll(&poll, 1, 0) == 1;
  }
  void write(const std::string& name, const std::string& content = "x") const {
    directory_.write("etc/" + name, content);
  }
  [[nodiscard]] std::string path(const std::string& name) const { return config_ + "/" + name; }

  TemporaryDirectory directory_;
  std::string config_ = directory_.path("etc");
  std::optional<Watcher> watcher_;
};

TEST_F(Watch, SeesASave) {
  write("policy.toml");
  open();
  write("policy.toml", "y");
  EXPECT_TRUE(readable());
  EXPECT_TRUE(changed());
  EXPECT_FALSE(readable());
  EXPECT_FALSE(changed());
  write("identity.toml");
  EXPECT_TRUE(changed()) << "a new file";
}

TEST_F(Watch, SeesAHundredSaves) {
  write("policy.toml");
  open();
  for (int i = 0; i < 100; ++i) {
    write("policy.toml", std::to_string(i));
    EXPECT_TRUE(changed()) << i;
  }
  for (int i = 0; i < 100; ++i) {
    write("policy.toml", std::to_string(i));
  }
  EXPECT_TRUE(changed());
  EXPECT_FALSE(changed()) << "one drain() reads all events";
}

TEST_F(Watch, SeesAnEditorsRenameOverAgainAndAgain) {
  write("policy.toml");
  open();
  for (int i = 0; i < 3; ++i) {
    write("policy.toml.new", std::to_string(i));
    EXPECT_FALSE(changed()) << "not renamed yet";
    fs::rename(path("policy.toml.new"), path("policy.toml"));
    EXPECT_TRUE(changed()) << i;
  }
}

TEST_F(Watch, SeesEachPartOfAWriteThatKeepsTheFileOpen) {
  write("policy.toml");
  open();
  const Fd file(::open(path("policy.toml").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(::write(file.get(), "part\n", 5), 5);
    EXPECT_TRUE(changed()) << i;
  }
}

TEST_F(Watch, SeesADeleteAndTheReturn) {
  write("policy.toml");
  open();
  fs::remove(path("policy.toml"));
  EXPECT_TRUE(changed());
  write("policy.toml");
  EXPECT_TRUE(changed());
}

TEST_F(Watch, SeesAMode) {
  write("host.key");
  open();
  ASSERT_EQ(::chmod(path("host.key").c_str(), 0600), 0);
  EXPECT_FALSE(changed()) << "not in the list of extra files yet";
  watcher_->set_extra_files({"host.key", directory_.path("pki/ca.pem")});
  ASSERT_EQ(::chmod(path("host.key").c_str(), 0640), 0);
  EXPECT_TRUE(changed());
  directory_.write("pki/ca.pem", "x");
  EXPECT_TRUE(changed()) << "an extra file in a new directory";
  directory_.write("pki/ca.pem", "y");
  EXPECT_TRUE(changed());
  watcher_->set_extra_files({});
  write("host.key", "y");
  EXPECT_FALSE(changed());
}

/// During its lifetime, this process cannot open files.
class NoDescriptors {
 public:
  NoDescriptors() {
    // The sanitizer opens a pipe when it first checks a type, so make it do that now.
    std::ignore = fail_errno(fmt::format("{} {}", "", 1), EMFILE);
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit none{0, before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &none);
  }
  ~NoDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;

 private:
  rlimit before_{};
};

TEST_F(Watch, LooksAgainWhereNothingCanBeWatched) {
  write("policy.toml");
  std::string problem;
  int fd = 0;
  bool changed_at_once = true;
  {
    const NoDescriptors none;
    watcher_.emplace(Watcher::open(config_));
    problem = watcher_->problem() ? watcher_->problem()->text() : "";
    fd = watcher_->fd();
    changed_at_once = watcher_->drain() || watcher_->poll();
  }
  EXPECT_THAT(problem, testing::HasSubstr("max_user_instances"));
  EXPECT_EQ(fd, -1);
  EXPECT_FALSE(changed_at_once) << "no change yet";
  write("policy.toml", "yy");
  EXPECT_TRUE(watcher_->poll());
  EXPECT_FALSE(watcher_->problem()) << "descriptors are available again";
  EXPECT_GE(watcher_->fd(), 0);
  EXPECT_FALSE(watcher_->poll());
  write("policy.toml", "z");
  EXPECT_TRUE(readable());
  EXPECT_TRUE(changed());
}

TEST_F(Watch, PollingSeesWhatWatchingSees) {
  write("policy.toml");
  write("policy.d/a.toml");
  open();
  watcher_->set_extra_files({"host.key"});
  EXPECT_FALSE(watcher_->poll());
  write("policy.d/a.toml", "longer");
  EXPECT_TRUE(watcher_->poll());
  write("policy.d/b.toml");
  EXPECT_TRUE(watcher_->poll());
  fs::remove(path("policy.d/b.toml"));
  EXPECT_TRUE(watcher_->poll());
  write("host.key");
  EXPECT_TRUE(watcher_->poll());
  EXPECT_FALSE(watcher_->poll());
  write("policy.d/a.toml.swp");
  write("notes");
  EXPECT_FALSE(watcher_->poll()) << "a changed directory alone is not a change";
}

TEST_F(Watch, DropInDirectoriesComeAndGo) {
  write("policy.toml");
  open();
  write("policy.d/a.toml");
  EXPECT_TRUE(changed());
  write("policy.d/b.toml");
  EXPECT_TRUE(changed());
  fs::rename(path("policy.d"), path("policy.d.off"));
  EXPECT_TRUE(changed());
  write("policy.d.off/a.toml", "y");
  EXPECT_FALSE(changed()) << "no longer the drop-in directory";
  fs::rename(path("policy.d.off"), path("identity.d"));
  EXPECT_TRUE(changed());
  fs::remove(path("identity.d/a.toml"));
  EXPECT_TRUE(changed());
  fs::remove_all(path("identity.d"));
  EXPECT_TRUE(changed());
  write("identity.d/c.toml");
  EXPECT_TRUE(changed());
}

TEST_F(Watch, OtherNamesDoNotCount) {
  write("policy.toml");
  write("policy.d/a.toml");
  open();
  for (const char* name : {"policy.toml~", ".policy.toml.swp", "4913", "README",
                           "policy.d/.a.toml.swp", "policy.d/a.toml.bak"}) {
    write(name);
    fs::remove(path(name));
  }
  directory_.write("beside/policy.toml", "x");
  EXPECT_FALSE(changed());
}

// The atomic writer of Kubernetes: policy.toml -> ..data/policy.toml, ..data -> ..v1. Each update
// renames a new ..data over the old one.
TEST_F(Watch, SeesAKubernetesSwap) {
  write("..v1/policy.toml", "1");
  fs::create_symlink("..v1", path("..data"));
  fs::create_symlink("..data/policy.toml", path("policy.toml"));
  open();
  for (int version = 2; version < 5; ++version) {
    const std::string name = "..v" + std::to_string(version);
    write(name + "/policy.toml", "new");
    EXPECT_FALSE(changed()) << "not renamed yet";
    fs::create_symlink(name, path("..data_tmp"));
    fs::rename(path("..data_tmp"), path("..data"));
    EXPECT_TRUE(changed()) << version;
    fs::remove_all(path("..v" + std::to_string(version - 1)));
    EXPECT_FALSE(changed()) << "the old version is no longer relevant";
    write(name + "/policy.toml", "in place");
    EXPECT_TRUE(changed()) << "the new version is relevant";
  }
}

TEST_F(Watch, FollowsLinksOutOfTheDirectory) {
  directory_.write("shared/v1/policy.toml", "x");
  directory_.write("shared/drop.toml", "x");
  fs::create_symlink("v1", directory_.path("shared/current"));
  fs::create_directories(path("policy.d"));
  fs::create_symlink(directory_.path("shared/current/policy.toml"), path("policy.toml"));
  fs::create_symlink("../../shared/drop.toml", path("policy.d/drop.toml"));
  open();
  directory_.write("shared/v1/policy.toml", "y");
  EXPECT_TRUE(changed());
  directory_.write("shared/drop.toml", "y");
  EXPECT_TRUE(changed());
  directory_.write("shared/v2/policy.toml", "z");
  fs::create_symlink("v2", directory_.path("shared/next"));
  EXPECT_FALSE(changed());
  fs::rename(directory_.path("shared/next"), directory_.path("shared/current"));
  EXPECT_TRUE(changed());
  directory_.write("shared/v1/policy.toml", "old");
  EXPECT_FALSE(changed());
}

TEST_F(Watch, TheDirectoryItselfCanBeReplaced) {
  write("policy.toml");
  open();
  fs::rename(config_, directory_.path("old"));
  EXPECT_TRUE(changed());
  directory_.write("old/policy.toml", "y");
  EXPECT_FALSE(changed());
  write("policy.toml");
  EXPECT_TRUE(changed());
  write("policy.toml", "z");
  EXPECT_TRUE(changed());
  fs::remove_all(config_);
  EXPECT_TRUE(changed());
}

TEST_F(Watch, TheDirectoryItselfCanBeALinkOrMissing) {
  open();
  directory_.write("v1/policy.toml", "x");
  fs::create_symlink("v1", config_);
  EXPECT_TRUE(changed());
  directory_.write("v2/policy.toml", "y");
  fs::create_symlink("v2", directory_.path("next"));
  fs::rename(directory_.path("next"), config_);
  EXPECT_TRUE(changed());
  directory_.write("v2/policy.toml", "z");
  EXPECT_TRUE(changed());
  directory_.write("v1/policy.toml", "z");
  EXPECT_FALSE(changed());
}

TEST_F(Watch, ALoopOfLinksDoesNotHang) {
  fs::create_directory(config_);
  fs::create_symlink("identity.toml", path("policy.toml"));
  fs::create_symlink("policy.toml", path("identity.toml"));
  open();
  fs::remove(path("policy.toml"));
  EXPECT_TRUE(changed());
  write("policy.toml");
  EXPECT_TRUE(changed());
}

TEST_F(Watch, AnOverflowCountsAsAChange) {
  write("policy.toml");
  open();
  std::string limit;
  if (auto read = read_file("/proc/sys/fs/inotify/max_queued_events")) {
    limit = *read;
  }
  const long events = limit.empty() ? 0 : std::stol(limit);
  if (events <= 0 || events > 50'000) {
    GTEST_SKIP() << "max_queued_events is " << events;
  }
  for (long i = 0; i <= events; ++i) {
    const std::string name = path(i % 2 == 0 ? "a" : "b");
    const Fd file(::open(name.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  }
  write("policy.toml", "lost in the flood");
  EXPECT_TRUE(changed());
}

}  // namespace
}  // namespace trireme::config
