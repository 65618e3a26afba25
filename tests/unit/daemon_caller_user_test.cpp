// SPDX-License-Identifier: Apache-2.0
// The user in the history and in orders of quarantine.
#include "../../src/daemon/caller_user.hpp"

#include <gmock/gmock.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "trireme/base/file.hpp"

namespace trireme::daemon {
namespace {

constexpr uid_t kNameless = 3'999'999'999;

control::Caller caller(pid_t pid, uid_t uid) {
  return {.pid = pid,
          .uid = uid,
          .gid = 0,
          .groups = {},
          .pidfd = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)))};
}

bool has_login() {
  const auto text = read_file("/proc/self/loginuid");
  return text && !text->empty() && !text->starts_with("4294967295");
}

TEST(CallerUser, TheUserOfAProcessWithoutALogin) {
  EXPECT_EQ(user_of({}), "root");  // no pid: the caller is in another pid namespace
  // Not the first line of /etc/passwd. Debian has this user there.
  EXPECT_EQ(user_of({.pid = 0, .uid = 65534, .gid = 0, .groups = {}, .pidfd = {}}), "nobody");
  EXPECT_EQ(user_of({.pid = 0, .uid = kNameless, .gid = 0, .groups = {}, .pidfd = {}}),
            "uid 3999999999");
  if (!has_login()) {
    EXPECT_EQ(user_of(caller(::getpid(), kNameless)), "uid 3999999999");
  }
}

TEST(CallerUser, TheLoginCountsMoreThanTheUserOfTheProcess) {
  if (!has_login()) {
    GTEST_SKIP() << "these tests do not run in a login session";
  }
  EXPECT_NE(user_of(caller(::getpid(), kNameless)), "uid 3999999999");
}

/// A pid without a running process of the caller can be another user's.
TEST(CallerUser, TheLoginOfAnEndedCallerIsNotUsed) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::_exit(0);
  }
  control::Caller ended = caller(child, kNameless);
  ASSERT_TRUE(ended.pidfd.valid());
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  ended.pid = ::getpid();  // as if this process had the pid now
  EXPECT_EQ(user_of(ended), "uid 3999999999");
}

}  // namespace
}  // namespace trireme::daemon
