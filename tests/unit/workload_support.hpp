// SPDX-License-Identifier: Apache-2.0
// Shared by the workload tests: a fake kernel, a private cgroup tree, and a process that can be
// moved.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <future>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "trireme/base/fd.hpp"
#include "trireme/kernel/cgroup.hpp"
#include "trireme/workload/enforcement.hpp"

namespace trireme::workload::test {

/// Records the state that the calls result in. Fails on demand.
class FakeEnforcement final : public Enforcement {
 public:
  struct Entry {
    policy::Number number = 0;  // 0: quarantined
    policy::LabelSet labels;
    std::uint32_t level = 0;
    std::uint64_t network = 0;  // inode number; 0: the daemon's own
    bool whole_network = false;
    std::set<std::uint64_t> further = {};  // inode numbers of further places
  };

  Result<policy::Number> enrol(CgroupRef cgroup, const policy::LabelSet& labels,
                               policy::Number number) override {
    ++enrolments;
    note("enrol", cgroup);
    if (refuse_enrolment) {
      return fail("no memory for elements");
    }
    if (number == 0) {
      number = next++;
    }
    entry(cgroup) = {number, labels, cgroup.level, inode(cgroup), cgroup.whole_network, {}};
    return number;
  }
  Status extend(CgroupRef cgroup, const policy::LabelSet& labels, policy::Number number) override {
    note("extend", cgroup);
    if (refuse_enrolment) {
      return fail("no memory for elements");
    }
    Entry& known = entry(cgroup);
    EXPECT_EQ(known.number, number);
    EXPECT_EQ(known.labels, labels);
    known.further.insert(inode(cgroup));
    return {};
  }
  Status quarantine(CgroupRef cgroup) override {
    note("quarantine", cgroup);
    entry(cgroup) = {0, {}, cgroup.level, inode(cgroup), cgroup.whole_network, {}};
    return {};
  }
  Status end(const CgroupRef& cgroup, policy::Number number) override {
    note("end", cgroup);
    auto& among = cgroup.id == 0 ? networks : cgroups;
    const auto found = among.find(cgroup.id == 0 ? inode(cgroup) : cgroup.id);
    if (found == among.end() || found->second.number != number ||
        (number != 0 && found->second.network != inode(cgroup))) {
      ADD_FAILURE() << "ends a cgroup that does not exist: " << calls.back();
      return fail("no such cgroup with that number");
    }
    among.erase(found);
    return {};
  }
  Status release(const CgroupRef& cgroup, policy::Number number) override {
    note("release", cgroup);
    const auto found = cgroups.find(cgroup.id);
    if (found != cgroups.end()) {
      EXPECT_EQ(found->second.number, number) << cgroup.path;
      cgroups.erase(found);
    }
    return {};
  }

  std::map<std::uint64_t, Entry> cgroups;   // by id
  std::map<std::uint64_t, Entry> networks;  // workloads without a cgroup, by inode of the network
  std::vector<std::string> calls;  // "enrol /a/b own"; no "own" or "shared" in the daemon's network
  policy::Number next = 1000;
  unsigned enrolments = 0;
  bool refuse_enrolment = false;

 private:
  static std::uint64_t inode(const CgroupRef& cgroup) {
    return cgroup.network ? cgroup.network->inode() : 0;
  }
  Entry& entry(const CgroupRef& cgroup) {
    return cgroup.id == 0 ? networks[inode(cgroup)] : cgroups[cgroup.id];
  }
  void note(const std::string& what, const CgroupRef& cgroup) {
    const std::string network = cgroup.whole_network ? " own" : " shared";
    calls.push_back(what + " " + cgroup.path + (cgroup.network ? network : ""));
  }
};

inline policy::LabelSet labels(std::initializer_list<std::pair<const char*, const char*>> items) {
  policy::LabelSet set;
  for (const auto& [key, value] : items) {
    EXPECT_TRUE(set.set(key, value));
  }
  return set;
}

/// A process that sleeps until the object is destroyed.
class Sleeper {
 public:
  /// `files`: whether it has this process' open files. A connection stays open as long as one of
  /// both has it.
  explicit Sleeper(bool files = true) : pid_(::fork()) {
    if (pid_ == 0) {
      if (!files) {
        ::close_range(0, ~0U, 0);
      }
      while (true) {
        ::pause();
      }
    }
  }
  ~Sleeper() { stop(); }
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;

  void stop() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
      pid_ = -1;
    }
  }
  [[nodiscard]] std::uint32_t pid() const { return static_cast<std::uint32_t>(pid_); }

 private:
  pid_t pid_;
};

/// Runs the test in its own network and cgroup namespaces. The root of tree_ is a directory that
/// the test created, so that records of daemons and of concurrent tests are not visible. Skips
/// without root or cgroup v2.
class CgroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
    auto outer = kernel::CgroupTree::find();
    if (!outer) {
      GTEST_SKIP() << outer.error().text();
    }
    if (::unshare(CLONE_NEWNET) != 0) {
      GTEST_SKIP() << "cannot make a network namespace";
    }
    static unsigned counter = 0;
    outer_ = std::make_unique<kernel::CgroupTree>(std::move(*outer));
    outer_base_ =
        "/trireme-test-" + std::to_string(::getpid()) + "-" + std::to_string(++counter) + ".slice";
    ASSERT_TRUE(outer_->create(outer_base_));
    home_ = *kernel::CgroupTree::of(static_cast<std::uint32_t>(::getpid()));
    namespace_ = Fd(::open("/proc/self/ns/cgroup", O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(outer_->place(outer_base_, static_cast<std::uint32_t>(::getpid())));
    ASSERT_EQ(::unshare(CLONE_NEWCGROUP), 0);
    auto tree = kernel::CgroupTree::find();
    ASSERT_TRUE(tree) << tree.error().text();
    tree_ = std::make_unique<kernel::CgroupTree>(std::move(*tree));
    ASSERT_GE(sd_event_new(&loop_), 0);
  }
  void TearDown() override {
    sd_event_unref(loop_);
    if (outer_) {
      EXPECT_EQ(::setns(namespace_.get(), CLONE_NEWCGROUP), 0);
      EXPECT_TRUE(outer_->place(home_, static_cast<std::uint32_t>(::getpid())));
      remove(*outer_, outer_base_);
    }
  }

  std::string make(const std::string& name) {
    std::string path = "/" + name;
    EXPECT_TRUE(tree_->create(path));
    return path;
  }
  std::uint64_t id(const std::string& path) { return tree_->id(path).value_or(0); }
  /// Runs the loop until there is no event for 50 ms, but at most for 300 ms.
  void settle() {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(300);
    while (std::chrono::steady_clock::now() < end && sd_event_run(loop_, 50'000) > 0) {
    }
  }

  /// Runs the loop until `condition` holds; false after 10 s.
  [[nodiscard]] bool await(const std::function<bool()>& condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > end) {
        return false;
      }
      sd_event_run(loop_, 20'000);
    }
    return true;
  }

  std::unique_ptr<kernel::CgroupTree> tree_;
  sd_event* loop_ = nullptr;

 private:
  static void remove(const kernel::CgroupTree& tree, const std::string& path) {
    for (const std::string& name : tree.children(path)) {
      remove(tree, path + "/" + name);
    }
    EXPECT_TRUE(tree.remove(path));
  }

  std::unique_ptr<kernel::CgroupTree> outer_;
  std::string outer_base_;
  std::string home_;
  Fd namespace_;
};

/// A process in its own or the daemon's network namespace that can be moved to another one.
class Process {
 public:
  explicit Process(bool own_network) {
    int orders[2];
    int answers[2];
    EXPECT_EQ(::pipe2(orders, O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(answers, O_CLOEXEC), 0);
    pid_ = outer_ = ::fork();
    if (pid_ == 0) {
      obey(orders[0], answers[1]);
    }
    orders_ = Fd(orders[1]);
    answers_ = Fd(answers[0]);
    ::close(orders[0]);
    ::close(answers[1]);
    if (own_network) {
      leave_network();
    }
  }
  ~Process() {
    ::kill(outer_, SIGKILL);
    ::waitpid(outer_, nullptr, 0);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  [[nodiscard]] std::uint32_t pid() const { return static_cast<std::uint32_t>(pid_); }
  [[nodiscard]] std::uint64_t network() const {
    return (*kernel::Netns::of_process(pid()))->inode();
  }
  void leave_network() { EXPECT_EQ(order(kLeave), 0); }
  /// Only a new thread of the process moves to a new network namespace.
  void thread_leaves_network() { EXPECT_GT(order(kThread), 0); }
  void leave_user_namespace() { EXPECT_EQ(order(kLeaveUser), 0); }
  void join_network(const Process& other) { EXPECT_EQ(order(other.pid_), 0); }
  /// From now on the object stands for a child of the former process.
  void become_child() { pid_ = order(kFork); }

 private:
  static constexpr pid_t kLeave = -1;
  static constexpr pid_t kLeaveUser = -2;
  static constexpr pid_t kFork = -3;
  static constexpr pid_t kThread = -4;

  pid_t order(pid_t what) {
    pid_t answer = -1;
    EXPECT_EQ(::write(orders_.get(), &what, sizeof what), static_cast<ssize_t>(sizeof what));
    EXPECT_EQ(::read(answers_.get(), &answer, sizeof answer), static_cast<ssize_t>(sizeof answer));
    return answer;
  }
  [[noreturn]] static void obey(int orders, int answers) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(orders, 0);
    ::dup2(answers, 1);
    ::close_range(3, ~0U, 0);  // so that connections end when the test closes them
    for (pid_t what = 0; ::read(0, &what, sizeof what) == static_cast<ssize_t>(sizeof what);) {
      pid_t answer = -1;
      if (what == kLeave || what == kLeaveUser) {
        answer = ::unshare(what == kLeave ? CLONE_NEWNET : CLONE_NEWUSER);
      } else if (what == kThread) {
        std::promise<pid_t> left;
        std::thread([&left] {
          left.set_value(::unshare(CLONE_NEWNET) == 0 ? ::gettid() : -1);
          while (true) {
            ::pause();
          }
        }).detach();
        answer = left.get_future().get();
      } else if (what == kFork) {
        answer = ::fork();
        if (answer == 0) {
          ::prctl(PR_SET_PDEATHSIG, SIGKILL);
          continue;  // the child obeys from now on; the parent only answers
        }
        std::ignore = ::write(1, &answer, sizeof answer);
        break;
      } else {
        const Fd network(
            ::open(("/proc/" + std::to_string(what) + "/ns/net").c_str(), O_RDONLY | O_CLOEXEC));
        answer = ::setns(network.get(), CLONE_NEWNET);
      }
      std::ignore = ::write(1, &answer, sizeof answer);
    }
    while (true) {
      ::pause();
    }
  }

  pid_t pid_ = -1;
  pid_t outer_ = -1;
  Fd orders_;
  Fd answers_;
};

inline std::string hex(char digit) {
  return std::string(64, digit);
}

}  // namespace trireme::workload::test
