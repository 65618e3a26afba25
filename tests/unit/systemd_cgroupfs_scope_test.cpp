// SPDX-License-Identifier: Apache-2.0
// Scopes on machines without systemd.
#include <gmock/gmock.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>
#include <thread>

#include "trireme/base/file.hpp"
#include "trireme/systemd/scope.hpp"
#include "workload_support.hpp"

namespace trireme::systemd {
namespace {

using ::testing::HasSubstr;
using workload::test::Sleeper;

/// From now on this system call fails in this thread.
bool forbid(unsigned call, unsigned error) {
  sock_filter program[] = {
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, call},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | error},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
  };
  const sock_fprog filter{.len = static_cast<unsigned short>(std::size(program)),
                          .filter = program};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

class ScopesWithoutSystemd : public workload::test::CgroupTest {
 protected:
  void open() {
    auto scopes = CgroupfsScopes::open(loop_, *tree_, "/t.slice");
    ASSERT_TRUE(scopes) << scopes.error().text();
    scopes_ = std::move(*scopes);
  }
  void TearDown() override {
    scopes_.reset();
    CgroupTest::TearDown();
  }
  /// The path of the new scope, or the error's message.
  std::string create(const std::string& name, std::uint32_t pid,
                     std::vector<Property> properties = {}) {
    std::optional<std::string> outcome;
    scopes_->create({.name = name, .pid = pid, .properties = std::move(properties)},
                    [&](const Result<std::string>& path) {
                      EXPECT_FALSE(outcome) << "`done` is called once";
                      outcome = path ? *path : path.error().message;
                    });
    EXPECT_TRUE(outcome) << "the outcome is known at once";
    return outcome.value_or("");
  }
  [[nodiscard]] bool exists(const std::string& path) { return id(path) != 0; }
  [[nodiscard]] bool await_end(const std::string& path) {
    return await([&] { return !exists(path); });
  }

  std::unique_ptr<CgroupfsScopes> scopes_;
};

TEST_F(ScopesWithoutSystemd, PropertiesThatOnlySystemdKnowsAreErrors) {
  open();
  Sleeper process;
  EXPECT_EQ(create("a.scope", process.pid(), {{"RuntimeMaxSec", "5"}}),
            "property 'RuntimeMaxSec' needs systemd");
  EXPECT_EQ(create("a.scope", process.pid(), {{"Slice", "trireme-a.slice"}}),
            "property 'Slice' needs systemd");
  EXPECT_EQ(create("a.scope", process.pid(), {{"MemoryMax", "10%"}}),
            "MemoryMax: percentages need systemd");
  EXPECT_THAT(create("a.scope", process.pid(), {{"TasksMax", "many"}}), HasSubstr("TasksMax"));
  EXPECT_FALSE(exists("/t.slice/a.scope"));
}

TEST_F(ScopesWithoutSystemd, ALimitThatCannotBeSetLeavesNothingBehind) {
  open();
  Sleeper process;
  const auto controllers = read_file(tree_->absolute("/cgroup.controllers"));
  ASSERT_TRUE(controllers);
  // The root of the fixture's tree contains this process, so no controller can be enabled there.
  const std::string expected = controllers->find("pids") == std::string::npos
                                   ? "the cgroup v2 hierarchy has no pids controller"
                                   : "cgroup.subtree_control";
  for (const char* value : {"100", "infinity"}) {
    EXPECT_THAT(create("a.scope", process.pid(), {{"Description", "x"}, {"TasksMax", value}}),
                HasSubstr(expected));
  }
  EXPECT_THAT(create("a.scope", process.pid(), {{"CPUQuota", "50%"}}), HasSubstr("cgroup"));
  EXPECT_FALSE(exists("/t.slice/a.scope"));
}

TEST_F(ScopesWithoutSystemd, AProcessThatHasGoneGetsNone) {
  open();
  Sleeper process;
  const std::uint32_t pid = process.pid();
  process.stop();
  EXPECT_THAT(create("a.scope", pid), HasSubstr("cannot move process"));
  EXPECT_FALSE(exists("/t.slice/a.scope"));
}

TEST_F(ScopesWithoutSystemd, ANameThatIsInUseIsAnError) {
  open();
  const Sleeper one;
  const Sleeper two;
  EXPECT_EQ(create("a.scope", one.pid()), "/t.slice/a.scope");
  EXPECT_EQ(create("a.scope", two.pid()), "a.scope already exists");
  EXPECT_EQ(tree_->pids("/t.slice/a.scope"), std::vector<std::uint32_t>{one.pid()});
}

TEST_F(ScopesWithoutSystemd, AScopeEndsWithItsLastProcess) {
  open();
  EXPECT_STREQ(scopes_->name(), "cgroupfs");
  EXPECT_EQ(scopes_->slice(), "/t.slice");
  Sleeper one;
  Sleeper two;
  const Sleeper other;
  EXPECT_EQ(create("a.scope", one.pid(), {{"Description", "a test"}}), "/t.slice/a.scope");
  EXPECT_EQ(create("b.scope", other.pid()), "/t.slice/b.scope");
  // The command has made cgroups of its own.
  ASSERT_TRUE(tree_->create("/t.slice/a.scope/x/y"));
  ASSERT_TRUE(tree_->place("/t.slice/a.scope/x/y", two.pid()));
  one.stop();
  settle();
  EXPECT_TRUE(exists("/t.slice/a.scope/x/y"));
  two.stop();
  EXPECT_TRUE(await_end("/t.slice/a.scope"));
  EXPECT_TRUE(exists("/t.slice/b.scope"));
  Sleeper next;
  EXPECT_EQ(create("a.scope", next.pid()), "/t.slice/a.scope") << "the name is free again";
  next.stop();
  EXPECT_TRUE(await_end("/t.slice/a.scope"));
}

TEST_F(ScopesWithoutSystemd, ThoseOfAnEarlierDaemonAreAdopted) {
  make("t.slice/empty.scope/x");
  make("t.slice/other.slice");
  const std::string full = make("t.slice/full.scope");
  Sleeper process;
  ASSERT_TRUE(tree_->place(full, process.pid()));
  open();
  EXPECT_FALSE(exists("/t.slice/empty.scope"));
  EXPECT_TRUE(exists("/t.slice/other.slice"));
  EXPECT_TRUE(exists(full));
  process.stop();
  EXPECT_TRUE(await_end(full));
}

TEST_F(ScopesWithoutSystemd, TheyEndAlsoWhereTheLimitsOfInotifyAreExhausted) {
  const std::pair<unsigned, unsigned> cases[] = {{SYS_inotify_init1, EMFILE},
                                                 {SYS_inotify_add_watch, ENOSPC}};
  for (const auto& [call, error] : cases) {
    std::thread([&] {
      ASSERT_TRUE(forbid(call, error));
      open();
      Sleeper one;
      Sleeper two;
      EXPECT_EQ(create("a.scope", one.pid()), "/t.slice/a.scope");
      EXPECT_EQ(create("b.scope", two.pid()), "/t.slice/b.scope");
      one.stop();
      EXPECT_TRUE(await_end("/t.slice/a.scope"));
      EXPECT_TRUE(exists("/t.slice/b.scope"));
      two.stop();
      EXPECT_TRUE(await_end("/t.slice/b.scope"));
    }).join();
  }
}

}  // namespace
}  // namespace trireme::systemd
