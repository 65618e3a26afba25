// SPDX-License-Identifier: Apache-2.0
// Descriptors and whole files: who closes a descriptor, which files remain, what errors say.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "trireme/base/fd.hpp"
#include "trireme/base/file.hpp"

namespace trireme {
namespace {

using ::testing::HasSubstr;

bool is_open(int fd) {
  return ::fcntl(fd, F_GETFD) >= 0;
}

Fd open_null() {
  return Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

TEST(Fd, ClosesWhatItOwnsOnce) {
  int number = -1;
  {
    const Fd fd = open_null();
    number = fd.get();
    ASSERT_TRUE(fd.valid());
    EXPECT_TRUE(is_open(number));
  }
  EXPECT_FALSE(is_open(number));
}

TEST(Fd, MovesOwnership) {
  Fd first = open_null();
  const int number = first.get();
  Fd second(std::move(first));
  EXPECT_FALSE(first.valid());  // NOLINT(bugprone-use-after-move): that is what is tested
  EXPECT_EQ(second.get(), number);
  first.reset();
  EXPECT_TRUE(is_open(number));

  Fd third = open_null();
  const int replaced = third.get();
  third = std::move(second);
  EXPECT_FALSE(is_open(replaced));
  EXPECT_EQ(third.get(), number);
  EXPECT_TRUE(is_open(number));
}

TEST(Fd, SurvivesAMoveToItself) {
  Fd fd = open_null();
  const int number = fd.get();
  Fd& same = fd;
  fd = std::move(same);
  EXPECT_EQ(fd.get(), number);
  EXPECT_TRUE(is_open(number));
}

TEST(Fd, ReleaseHandsOver) {
  Fd fd = open_null();
  const int number = fd.release();
  EXPECT_FALSE(fd.valid());
  EXPECT_EQ(fd.get(), -1);
  EXPECT_TRUE(is_open(number));
  fd.reset(number);
  EXPECT_EQ(fd.get(), number);
  fd.reset();
  EXPECT_FALSE(is_open(number));
}

class File : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = "/tmp/trireme-file-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    path_ = directory_ + "/file";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  [[nodiscard]] static mode_t mode(const std::string& path) {
    struct stat info {};
    EXPECT_EQ(::lstat(path.c_str(), &info), 0) << path;
    return info.st_mode & 07777U;
  }
  [[nodiscard]] std::size_t files() const {
    const std::filesystem::directory_iterator all(directory_);
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
  }

  std::string directory_;
  std::string path_;
};

TEST_F(File, ReadsWhatWasWritten) {
  // Contains every byte value, and is larger than one read(2) of read_file().
  std::string content;
  for (int i = 0; i < 50'000; ++i) {
    content += static_cast<char>(i);
  }
  for (const std::string& text : {content, std::string("\0\n", 2), std::string()}) {
    ASSERT_TRUE(write_file(path_, text));
    const auto read = read_file(path_);
    ASSERT_TRUE(read) << read.error().text();
    EXPECT_EQ(*read, text);
  }
}

TEST_F(File, ErrorsNameThePathAndTheReason) {
  const std::string missing = directory_ + "/no/file";
  const auto read = read_file(missing);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().message, "cannot read " + missing + ": No such file or directory");
  const auto is_directory = read_file(directory_);
  ASSERT_FALSE(is_directory);
  EXPECT_THAT(is_directory.error().message, HasSubstr("Is a directory"));

  EXPECT_EQ(write_file(missing, "x").error().message,
            "cannot write " + missing + ": No such file or directory");
  EXPECT_EQ(replace_file(missing, "x", 0600).error().message,
            "cannot create " + missing + ".new: No such file or directory");
  EXPECT_EQ(write_new_file(missing, "x", 0600).error().message,
            "cannot create " + missing + ": No such file or directory");
}

TEST_F(File, ALimitIsTheLargestSizeThatIsRead) {
  ASSERT_TRUE(write_file(path_, std::string(1000, 'x')));
  EXPECT_TRUE(read_file(path_, 1000));
  const auto larger = read_file(path_, 999);
  ASSERT_FALSE(larger);
  EXPECT_EQ(larger.error().message, "cannot read " + path_ + ": larger than 999 bytes");
  EXPECT_FALSE(read_file("/dev/zero", 1U << 20U)) << "it is endless";
}

TEST_F(File, AFullDeviceIsAnError) {
  EXPECT_THAT(write_file("/dev/full", "x").error().message, HasSubstr("No space left"));
}

TEST_F(File, WriteTruncatesAndKeepsTheMode) {
  ASSERT_TRUE(write_file(path_, "a long text", 0600));
  EXPECT_EQ(mode(path_), 0600U);
  ASSERT_TRUE(write_file(path_, "short", 0644));
  EXPECT_EQ(*read_file(path_), "short");
  EXPECT_EQ(mode(path_), 0600U);
}

TEST_F(File, ReplaceSetsTheModeAndLeavesNothingBeside) {
  ASSERT_TRUE(write_file(path_, "old", 0644));
  ASSERT_TRUE(write_file(path_ + ".new", "of an interrupted write", 0644));
  ASSERT_TRUE(replace_file(path_, "new", 0600));
  EXPECT_EQ(*read_file(path_), "new");
  EXPECT_EQ(mode(path_), 0600U);
  EXPECT_EQ(files(), 1U);
}

TEST_F(File, ReplaceTakesTheNameFromALinkAndNotItsTarget) {
  const std::string target = directory_ + "/target";
  ASSERT_TRUE(write_file(target, "stays"));
  ASSERT_EQ(::symlink(target.c_str(), path_.c_str()), 0);
  ASSERT_TRUE(replace_file(path_, "new", 0600));
  EXPECT_EQ(*read_file(target), "stays");
  EXPECT_EQ(*read_file(path_), "new");
}

TEST_F(File, AReplacementThatFailsLeavesTheOldFile) {
  ASSERT_EQ(::mkdir(path_.c_str(), 0755), 0);
  ASSERT_TRUE(write_file(path_ + "/inside", "old"));
  EXPECT_FALSE(replace_file(path_, "new", 0600)) << "a directory that is not empty";
  EXPECT_EQ(*read_file(path_ + "/inside"), "old");
  EXPECT_EQ(files(), 1U) << "no .new remains";
}

TEST_F(File, ANewFileDoesNotReplace) {
  ASSERT_TRUE(write_new_file(path_, "first", 0400));
  EXPECT_EQ(mode(path_), 0400U);
  const auto again = write_new_file(path_, "second", 0600);
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().message, HasSubstr("File exists"));
  EXPECT_EQ(*read_file(path_), "first");

  const std::string link = directory_ + "/link";
  ASSERT_EQ(::symlink((directory_ + "/nowhere").c_str(), link.c_str()), 0);
  EXPECT_FALSE(write_new_file(link, "x", 0600)) << "a dangling link exists too";
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/nowhere"));
}

}  // namespace
}  // namespace trireme
