// SPDX-License-Identifier: Apache-2.0
#include "trireme/kernel/cgroup.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <memory>
#include <string>
#include <vector>

#include "trireme/base/file.hpp"

namespace trireme::kernel {
namespace {

using What = CgroupWatch::Event::What;

class CgroupTreeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
    auto tree = CgroupTree::find();
    if (!tree) {
      GTEST_SKIP() << tree.error().text();
    }
    tree_ = std::make_unique<CgroupTree>(std::move(*tree));
    base_ = "/trireme-test-kernel-" + std::to_string(::getpid());
    ASSERT_TRUE(tree_->create(base_));
  }
  void TearDown() override {
    if (tree_) {
      for (const std::string& name : tree_->children(base_)) {
        EXPECT_TRUE(tree_->remove(base_ + "/" + name));
      }
      EXPECT_TRUE(tree_->remove(base_));
    }
  }

  std::unique_ptr<CgroupTree> tree_;
  std::string base_;
};

std::size_t watches_in_kernel(int inotify) {
  const auto info = read_file("/proc/self/fdinfo/" + std::to_string(inotify));
  std::size_t count = 0;
  for (std::size_t at = info->find("inotify wd:"); at != std::string::npos;
       at = info->find("inotify wd:", at + 1)) {
    ++count;
  }
  return count;
}

TEST(CgroupPath, LevelCountsDirectories) {
  EXPECT_EQ(CgroupTree::level("/"), 0U);
  EXPECT_EQ(CgroupTree::level("/a.slice"), 1U);
  EXPECT_EQ(CgroupTree::level("/a.slice/b.scope"), 2U);
}

TEST(CgroupPath, OwnProcessHasOne) {
  const auto path = CgroupTree::of(static_cast<std::uint32_t>(::getpid()));
  if (!path) {
    GTEST_SKIP() << path.error().text();
  }
  EXPECT_TRUE(path->starts_with("/"));
  EXPECT_FALSE(CgroupTree::of(0));
}

TEST_F(CgroupTreeTest, ListsAllCgroupsDownToALimit) {
  std::string deepest = base_;
  while (CgroupTree::level(deepest) < CgroupTree::kDeepest) {
    deepest += "/d";
  }
  const std::string deeper = deepest + "/d";
  ASSERT_TRUE(tree_->create(deeper));
  const std::vector<std::string> all = tree_->all();
  EXPECT_EQ(std::ranges::count(all, base_), 1);
  EXPECT_EQ(std::ranges::count(all, deepest), 1);
  EXPECT_EQ(std::ranges::count(all, deeper), 0);
  EXPECT_LT(std::ranges::find(all, base_), std::ranges::find(all, base_ + "/d"));
  for (std::string path = deeper; path != base_; path.resize(path.rfind('/'))) {
    EXPECT_TRUE(tree_->remove(path));
  }
}

TEST_F(CgroupTreeTest, MakesListsAndRemovesDirectories) {
  ASSERT_TRUE(tree_->create(base_ + "/a"));
  ASSERT_TRUE(tree_->create(base_ + "/a")) << "an existing cgroup is no error";
  ASSERT_TRUE(tree_->create(base_ + "/b"));
  auto names = tree_->children(base_);
  std::ranges::sort(names);
  EXPECT_EQ(names, (std::vector<std::string>{"a", "b"}));
  EXPECT_NE(*tree_->id(base_ + "/a"), *tree_->id(base_ + "/b"));
  ASSERT_TRUE(tree_->remove(base_ + "/a"));
  EXPECT_FALSE(tree_->id(base_ + "/a"));
  EXPECT_TRUE(tree_->remove(base_ + "/a")) << "a missing cgroup is no error";
}

TEST_F(CgroupTreeTest, MovesAProcess) {
  ASSERT_TRUE(tree_->create(base_ + "/a"));
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  const auto pid = static_cast<std::uint32_t>(child);
  EXPECT_FALSE(tree_->populated(base_));
  ASSERT_TRUE(tree_->place(base_ + "/a", pid));
  EXPECT_EQ(*CgroupTree::of(pid), base_ + "/a");
  EXPECT_EQ(tree_->pids(base_ + "/a"), std::vector<std::uint32_t>{pid});
  EXPECT_TRUE(tree_->populated(base_)) << "counts descendants";
  EXPECT_TRUE(tree_->pids(base_).empty()) << "does not count descendants";
  EXPECT_FALSE(tree_->remove(base_ + "/a"));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_FALSE(tree_->place(base_ + "/a", pid)) << "the process has ended";
}

TEST_F(CgroupTreeTest, KeepsAttributes) {
  EXPECT_EQ(*tree_->attribute(base_, kLabelsXattr), std::nullopt);
  ASSERT_TRUE(tree_->set_attribute(base_, kLabelsXattr, "app=web\n"));
  EXPECT_EQ(*tree_->attribute(base_, kLabelsXattr), "app=web\n");
  const std::string large(8192, 'x');
  ASSERT_TRUE(tree_->set_attribute(base_, kLabelsXattr, large));
  EXPECT_EQ(*tree_->attribute(base_, kLabelsXattr), large);
  ASSERT_TRUE(tree_->set_attribute(base_, kLabelsXattr, ""));
  EXPECT_EQ(*tree_->attribute(base_, kLabelsXattr), "") << "an empty value is a value";
  ASSERT_TRUE(tree_->clear_attribute(base_, kLabelsXattr));
  EXPECT_EQ(*tree_->attribute(base_, kLabelsXattr), std::nullopt);
  EXPECT_TRUE(tree_->clear_attribute(base_, kLabelsXattr));
  EXPECT_FALSE(tree_->attribute(base_ + "/none", kLabelsXattr)) << "a missing cgroup is an error";
}

TEST_F(CgroupTreeTest, AnnouncesBirthsAndDeaths) {
  CgroupWatch watch(*tree_);
  EXPECT_FALSE(watch.add(base_)) << "not open";
  EXPECT_TRUE(watch.drain().empty());
  ASSERT_TRUE(watch.open());
  ASSERT_TRUE(watch.open()) << "a second open() is no error";
  ASSERT_TRUE(watch.add(base_));
  ASSERT_TRUE(watch.add(base_)) << "a second add() is no error";
  EXPECT_TRUE(watch.drain().empty());
  ASSERT_TRUE(tree_->create(base_ + "/a"));
  ASSERT_TRUE(watch.add(base_ + "/a"));
  ASSERT_TRUE(tree_->create(base_ + "/a/b"));
  ASSERT_TRUE(tree_->remove(base_ + "/a/b"));
  ASSERT_TRUE(tree_->remove(base_ + "/a"));
  const auto events = watch.drain();
  ASSERT_EQ(events.size(), 4U);
  EXPECT_TRUE(events[0].what == What::born && events[0].path == base_ + "/a");
  EXPECT_TRUE(events[1].what == What::born && events[1].path == base_ + "/a/b");
  EXPECT_TRUE(events[2].what == What::gone && events[2].path == base_ + "/a/b");
  EXPECT_TRUE(events[3].what == What::gone && events[3].path == base_ + "/a");
  EXPECT_FALSE(watch.watches(base_ + "/a")) << "the watch of a removed directory ends";
  EXPECT_TRUE(watch.watches(base_));
  EXPECT_EQ(watches_in_kernel(watch.fd()), 1U) << "also in the kernel";
}

TEST_F(CgroupTreeTest, WatchesAPathThatIsBornAgain) {
  CgroupWatch watch(*tree_);
  ASSERT_TRUE(watch.open());
  ASSERT_TRUE(watch.add(base_));
  ASSERT_TRUE(tree_->create(base_ + "/a"));
  ASSERT_TRUE(watch.add(base_ + "/a"));
  ASSERT_TRUE(tree_->remove(base_ + "/a"));
  ASSERT_TRUE(tree_->create(base_ + "/a"));
  ASSERT_TRUE(watch.add(base_ + "/a")) << "before the removal of the first one was read";
  std::ignore = watch.drain();
  EXPECT_TRUE(watch.watches(base_ + "/a"));
  EXPECT_EQ(watches_in_kernel(watch.fd()), 2U);
  ASSERT_TRUE(tree_->create(base_ + "/a/b"));
  const auto events = watch.drain();
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0].path, base_ + "/a/b");
  ASSERT_TRUE(tree_->remove(base_ + "/a/b"));
}

}  // namespace
}  // namespace trireme::kernel
