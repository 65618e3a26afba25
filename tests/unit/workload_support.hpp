// What the workload tests share: a fake kernel, a cgroup of their own, a process to move about.
#pragma once

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "trireme/kernel/cgroup.hpp"
#include "trireme/workload/enforcement.hpp"

namespace trireme::workload::test {

/// Keeps what it is told; fails on demand.
class FakeEnforcement final : public Enforcement {
 public:
  struct Entry {
    policy::Number number = 0;  // 0: quarantined
    policy::LabelSet labels;
    std::uint32_t level = 0;
    std::uint64_t network = 0;  // inode number; 0: ours
    bool whole_network = false;
  };

  Result<policy::Number> enrol(CgroupRef cgroup, const policy::LabelSet& labels, policy::Number number) override {
    ++enrolments;
    note("enrol", cgroup);
    if (refuse_enrolment) {
      return fail("no memory for elements");
    }
    if (number == 0) {
      number = next++;
    }
    entry(cgroup) = {number, labels, cgroup.level, inode(cgroup), cgroup.whole_network};
    return number;
  }
  Status quarantine(CgroupRef cgroup) override {
    note("quarantine", cgroup);
    entry(cgroup) = {0, {}, cgroup.level, inode(cgroup), cgroup.whole_network};
    return {};
  }
  Status end(const CgroupRef& cgroup, policy::Number number) override {
    note("end", cgroup);
    auto& among = cgroup.id == 0 ? networks : cgroups;
    const auto found = among.find(cgroup.id == 0 ? inode(cgroup) : cgroup.id);
    if (found == among.end() || found->second.number != number || (number != 0 && found->second.network != inode(cgroup))) {
      ADD_FAILURE() << "ends what there is not: " << calls.back();
      return fail("no such cgroup with that number");
    }
    among.erase(found);
    return {};
  }

  std::map<std::uint64_t, Entry> cgroups;   // by id
  std::map<std::uint64_t, Entry> networks;  // of those without a cgroup, by the network's inode number
  std::vector<std::string> calls;           // "enrol /a/b own": "own" or "shared" where it is in a network of another than ours
  policy::Number next = 1000;
  unsigned enrolments = 0;
  bool refuse_enrolment = false;

 private:
  static std::uint64_t inode(const CgroupRef& cgroup) { return cgroup.network ? cgroup.network->inode() : 0; }
  Entry& entry(const CgroupRef& cgroup) { return cgroup.id == 0 ? networks[inode(cgroup)] : cgroups[cgroup.id]; }
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

/// A process that sleeps until the object goes.
class Sleeper {
 public:
  Sleeper() : pid_(::fork()) {
    if (pid_ == 0) {
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

/// A cgroup directory that nobody else uses, below the root of the real hierarchy, in a network namespace of our own: records of daemons
/// that run on this machine are not ours then. Skips where we are not root or have no cgroup v2.
class CgroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
    auto tree = kernel::CgroupTree::find();
    if (!tree) {
      GTEST_SKIP() << tree.error().text();
    }
    if (::unshare(CLONE_NEWNET) != 0) {
      GTEST_SKIP() << "cannot make a network namespace";
    }
    tree_ = std::make_unique<kernel::CgroupTree>(std::move(*tree));
    static unsigned counter = 0;
    base_ = "/trireme-test-" + std::to_string(::getpid()) + "-" + std::to_string(++counter) + ".slice";
    ASSERT_TRUE(tree_->create(base_));
    ASSERT_GE(sd_event_new(&loop_), 0);
  }
  void TearDown() override {
    sd_event_unref(loop_);
    if (tree_) {
      remove(base_);
    }
  }

  std::string make(const std::string& name) {
    std::string path = base_ + "/" + name;
    EXPECT_TRUE(tree_->create(path));
    return path;
  }
  std::uint64_t id(const std::string& path) { return tree_->id(path).value_or(0); }
  void remove(const std::string& path) {
    for (const std::string& name : tree_->children(path)) {
      remove(path + "/" + name);
    }
    EXPECT_TRUE(tree_->remove(path));
  }
  /// Runs the loop until nothing happens for 50 ms, or for 300 ms where something always does.
  void settle() {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(300);
    while (std::chrono::steady_clock::now() < end && sd_event_run(loop_, 50'000) > 0) {
    }
  }

  std::unique_ptr<kernel::CgroupTree> tree_;
  std::string base_;
  sd_event* loop_ = nullptr;
};

}  // namespace trireme::workload::test
