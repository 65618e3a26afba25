// SPDX-License-Identifier: Apache-2.0
// Changes of files: what they leave behind, and what an error or a crash before one of them leaves.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "trireme/base/disk.hpp"
#include "trireme/base/file.hpp"

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class DiskTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "trireme-disk-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override {
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
  }
  [[nodiscard]] std::string path(const std::string& name) const { return directory_ + "/" + name; }
  [[nodiscard]] unsigned mode(const std::string& name) const {
    struct stat status = {};
    return ::stat(path(name).c_str(), &status) == 0 ? status.st_mode & 07777U : 0;
  }

  std::string directory_;
};

TEST_F(DiskTest, ModesAreExactWhateverTheUmaskIs) {
  const Disk disk;
  const mode_t before = ::umask(0077);
  EXPECT_TRUE(disk.create(path("a"), "content", 0664));
  EXPECT_TRUE(disk.replace(path("b"), "content", 0640));
  EXPECT_TRUE(disk.make_directory(path("d"), 0755));
  ::umask(before);
  EXPECT_EQ(mode("a"), 0664U);
  EXPECT_EQ(mode("b"), 0640U);
  EXPECT_EQ(mode("d"), 0755U);
  EXPECT_TRUE(disk.make_directory(path("d"), 0700)) << "it exists";
  EXPECT_EQ(mode("d"), 0755U);
}

TEST_F(DiskTest, ErrorsNameThePath) {
  const Disk disk;
  ASSERT_TRUE(disk.create(path("a"), "old", 0600));
  const Status again = disk.create(path("a"), "new", 0600);
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().message, HasSubstr(path("a")));
  EXPECT_EQ(read_file(path("a")).value(), "old");
  for (const Status& failed :
       {disk.create(path("none/a"), "", 0600), disk.replace(path("none/a"), "", 0600),
        disk.rename(path("none"), path("b")), disk.make_directory(path("none/d"), 0700),
        disk.sync(path("none"))}) {
    ASSERT_FALSE(failed);
    EXPECT_THAT(failed.error().message, HasSubstr(directory_));
    EXPECT_EQ(failed.error().code, ENOENT);
  }
  EXPECT_TRUE(disk.remove(path("none"))) << "a missing file is what remove() is for";
}

TEST_F(DiskTest, AnErrorBeforeAChangePreventsIt) {
  ASSERT_TRUE(Disk().create(path("a"), "old", 0600));
  std::vector<std::string> changes;
  const Disk watched([&](const std::string& change) {
    changes.push_back(change);
    return Status{};
  });
  ASSERT_TRUE(watched.replace(path("a"), "new", 0600));
  EXPECT_THAT(changes, ElementsAre("create " + path("a.new"), "rename " + path("a")));
  for (const std::string& forbidden : changes) {
    const Disk disk([&](const std::string& change) {
      return change == forbidden ? fail("the disk is full") : Status{};
    });
    const Status replaced = disk.replace(path("a"), "newest", 0600);
    ASSERT_FALSE(replaced) << forbidden;
    EXPECT_EQ(replaced.error().message, "the disk is full");
    EXPECT_EQ(read_file(path("a")).value(), "new");
    EXPECT_FALSE(std::filesystem::exists(path("a.new")));
  }
}

}  // namespace
}  // namespace trireme
