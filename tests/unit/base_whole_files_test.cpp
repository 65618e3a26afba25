// SPDX-License-Identifier: Apache-2.0
// Whole files are written completely or not at all, and never through somebody else's link.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "trireme/base/file.hpp"

namespace trireme {
namespace {

namespace fs = std::filesystem;

class WholeFiles : public testing::Test {
 protected:
  WholeFiles() {
    std::string name = fs::temp_directory_path() / "trireme-base-XXXXXX";
    directory_ = ::mkdtemp(name.data());
  }
  ~WholeFiles() override { fs::remove_all(directory_); }

  [[nodiscard]] std::string path(const std::string& name) const { return directory_ / name; }
  [[nodiscard]] static mode_t mode(const std::string& path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 ? status.st_mode & 07777U : 0;
  }

 private:
  fs::path directory_;
};

TEST_F(WholeFiles, AReaderHasALimit) {
  const std::string file = path("a");
  ASSERT_TRUE(write_file(file, std::string(20'000, 'x')));
  EXPECT_EQ(read_file(file, 20'000).value_or("").size(), 20'000U);
  const auto larger = read_file(file, 19'999);
  ASSERT_FALSE(larger);
  EXPECT_EQ(larger.error().message, "cannot read " + file + ": larger than 19999 bytes");
  EXPECT_FALSE(read_file("/dev/zero", 100'000)) << "it is endless";
  EXPECT_FALSE(read_file(path("none")));
}

TEST_F(WholeFiles, ANewOneReplacesNothing) {
  const std::string file = path("key");
  ASSERT_TRUE(write_new_file(file, "first", 0600));
  EXPECT_EQ(mode(file), 0600U);
  EXPECT_FALSE(write_new_file(file, "second", 0600));
  EXPECT_EQ(read_file(file), "first");
  const std::string elsewhere = path("elsewhere");
  fs::create_symlink(elsewhere, path("link"));
  EXPECT_FALSE(write_new_file(path("link"), "through the link", 0600));
  EXPECT_FALSE(fs::exists(elsewhere));
}

TEST_F(WholeFiles, AReplacedOneIsANewFileOfItsOwnMode) {
  const std::string file = path("state");
  ASSERT_TRUE(write_file(file, "a longer text than what follows", 0644));
  fs::create_hard_link(file, path("held"));
  fs::create_symlink(path("victim"), file + ".new");  // by an interrupted write, or by an attacker
  ASSERT_TRUE(replace_file(file, "new", 0600));
  EXPECT_EQ(read_file(file), "new");
  EXPECT_EQ(mode(file), 0600U);
  EXPECT_EQ(read_file(path("held")), "a longer text than what follows")
      << "a reader of the former file reads all of it";
  EXPECT_FALSE(fs::exists(path("victim")));
  EXPECT_FALSE(fs::exists(file + ".new"));
  EXPECT_FALSE(replace_file(path("none/state"), "x", 0600));
}

}  // namespace
}  // namespace trireme
