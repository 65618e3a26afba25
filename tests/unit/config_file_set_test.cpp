// SPDX-License-Identifier: Apache-2.0
// The TOML files of a configuration as a whole: what is replaced, what is left alone, and what a
// crash or a full disk leaves.
#include "trireme/config/file_set.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sstream>

#include "config_support.hpp"

namespace trireme::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

const FileSet kOld = {
    .policy = {{"policy.toml", "# old\n"}, {"policy.d/10-a.toml", "# a\n"}},
    .identity = {{"identity.toml", "[host]\nname = \"old\"\n"}, {"identity.d/x.toml", "# x\n"}}};
const FileSet kNew = {.policy = {{"policy.toml", "# new\n"}, {"policy.d/20-b.toml", "# b\n"}},
                      .identity = {{"identity.toml", "[host]\nname = \"new\"\n"}}};

struct Crash {};

class FileSetTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const auto* part : {&kOld.policy, &kOld.identity}) {
      for (const Source& source : *part) {
        directory_.write(source.file, source.content);
      }
    }
    directory_.write("host.key", "a secret\n");
    directory_.write("policy.d/README", "not a policy\n");
    directory_.write("policy.d/.hidden.toml", "not read\n");
  }
  [[nodiscard]] Digests on_disk() const {
    return digests_of(files_of(load(directory_.path(), KeyFiles::optional)));
  }
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(directory_.path())) {
      if (!entry.is_directory()) {
        names.push_back(std::filesystem::relative(entry.path(), directory_.path()).string());
      }
    }
    return names;
  }
  [[nodiscard]] unsigned mode(const std::string& name) const {
    struct stat status = {};
    return ::stat(directory_.path(name).c_str(), &status) == 0 ? status.st_mode & 07777U : 0;
  }
  /// A disk on which the change with this number, from 0, fails or is a crash.
  Disk disk_with(int number, bool crash) {
    changes_ = 0;
    return Disk([this, number, crash](const std::string&) -> Status {
      if (changes_++ != number) {
        return {};
      }
      if (crash) {
        throw Crash{};
      }
      return fail("No space left on device");
    });
  }

  TemporaryDirectory directory_;
  int changes_ = 0;
};

TEST_F(FileSetTest, IsReplacedAsAWhole) {
  ASSERT_TRUE(replace_files(Disk{}, directory_.path(), kNew));
  EXPECT_EQ(on_disk(), digests_of(kNew));
  EXPECT_THAT(names(),
              UnorderedElementsAre("policy.toml", "policy.d/20-b.toml", "identity.toml", "host.key",
                                   "policy.d/README", "policy.d/.hidden.toml"));
  ASSERT_TRUE(replace_files(Disk{}, directory_.path(), {}));
  EXPECT_THAT(names(),
              UnorderedElementsAre("host.key", "policy.d/README", "policy.d/.hidden.toml"));
}

TEST_F(FileSetTest, IsReadAsLoadReadsIt) {
  EXPECT_EQ(digests_of(read_files(directory_.path())), digests_of(kOld));
  directory_.write("policy.toml", "form = 1\n");
  directory_.write("policy.d/00-first.toml", "no TOML");
  directory_.write("policy.d/big.toml", std::string(kMaxFileBytes + 1, '#'));
  const FileSet read = read_files(directory_.path());
  EXPECT_EQ(digests_of(read), on_disk());
  EXPECT_THAT(read.policy, ::testing::SizeIs(3)) << "valid or not";
  EXPECT_THAT(read_files(directory_.path("missing")).policy, ::testing::IsEmpty());
}

TEST_F(FileSetTest, NewDirectoriesAreMade) {
  TemporaryDirectory empty;
  ASSERT_TRUE(replace_files(Disk{}, empty.path(), kOld));
  EXPECT_EQ(digests_of(files_of(load(empty.path()))), digests_of(kOld));
}

TEST_F(FileSetTest, FilesKeepTheirModes) {
  ASSERT_EQ(::chmod(directory_.path("policy.toml").c_str(), 0640), 0);
  ASSERT_EQ(::chmod(directory_.path("policy.d/10-a.toml").c_str(), 0600), 0);
  FileSet next = kNew;
  next.policy.push_back({"policy.d/10-a.toml", "# changed\n"});
  ASSERT_TRUE(replace_files(Disk{}, directory_.path(), next));
  EXPECT_EQ(mode("policy.toml"), 0640U);
  EXPECT_EQ(mode("policy.d/10-a.toml"), 0600U);
  EXPECT_EQ(mode("policy.d/20-b.toml"), 0640U) << "a new drop-in is as readable as policy.toml";
  EXPECT_EQ(mode("identity.toml"), 0644U);
}

TEST_F(FileSetTest, ALostGroupIsLogged) {
  if (::chown(directory_.path("policy.toml").c_str(), ::geteuid(), 12'345) != 0) {
    GTEST_SKIP() << "only root can give a file to another group";
  }
  std::ostringstream log;
  const auto logger = spdlog::default_logger();
  spdlog::set_default_logger(std::make_shared<spdlog::logger>(
      "test", std::make_shared<spdlog::sinks::ostream_sink_st>(log)));
  const Status replaced = replace_files(Disk{}, directory_.path(), kNew);
  spdlog::set_default_logger(logger);
  ASSERT_TRUE(replaced);
  EXPECT_THAT(log.str(), HasSubstr(directory_.path("policy.toml") + " belonged to user"));
  EXPECT_THAT(log.str(), HasSubstr("group 12345"));
  EXPECT_THAT(log.str(), ::testing::Not(HasSubstr("identity.toml"))) << "its group is the same";
}

TEST_F(FileSetTest, AFileThatComesBackHasItsMode) {
  ASSERT_EQ(::chmod(directory_.path("identity.toml").c_str(), 0600), 0);
  ASSERT_EQ(::chmod(directory_.path("policy.d/10-a.toml").c_str(), 0640), 0);
  const auto before = file_set(to_json(files_of(load(directory_.path(), KeyFiles::optional))));
  ASSERT_TRUE(before);
  ASSERT_TRUE(replace_files(Disk{}, directory_.path(), {}));
  ASSERT_TRUE(replace_files(Disk{}, directory_.path(), *before));
  EXPECT_EQ(mode("identity.toml"), 0600U);
  EXPECT_EQ(mode("policy.d/10-a.toml"), 0640U);
  EXPECT_EQ(on_disk(), digests_of(kOld)) << "modes are no part of a digest";
}

TEST_F(FileSetTest, UnchangedFilesAreNotWritten) {
  ASSERT_TRUE(replace_files(disk_with(-1, false), directory_.path(), kOld));
  EXPECT_EQ(changes_, 0);
}

TEST_F(FileSetTest, AFullDiskChangesNothing) {
  const auto before = names();
  // Creates policy.toml, policy.d/20-b.toml and identity.toml before the first rename.
  for (int number = 0; number < 3; ++number) {
    const Status replaced = replace_files(disk_with(number, false), directory_.path(), kNew);
    ASSERT_FALSE(replaced);
    EXPECT_THAT(replaced.error().message, HasSubstr("No space left"));
    EXPECT_EQ(on_disk(), digests_of(kOld)) << number;
    EXPECT_THAT(names(), ::testing::UnorderedElementsAreArray(before)) << "nothing is left";
  }
}

TEST_F(FileSetTest, AfterACrashAnotherCallRepairs) {
  ASSERT_TRUE(replace_files(disk_with(-1, true), directory_.path(), kNew));
  const int all = changes_;
  ASSERT_GE(all, 8);  // 3 files created, 3 renamed, 2 removed
  for (int number = 0; number < all; ++number) {
    ASSERT_TRUE(replace_files(Disk{}, directory_.path(), kOld));
    EXPECT_THROW(std::ignore = replace_files(disk_with(number, true), directory_.path(), kNew),
                 Crash);
    ASSERT_TRUE(replace_files(Disk{}, directory_.path(), kOld));
    EXPECT_EQ(on_disk(), digests_of(kOld)) << number;
    EXPECT_EQ(names().size(), 7U) << "no temporary file is left: " << number;
  }
}

TEST_F(FileSetTest, LinksAreRefusedWithTheReason) {
  EXPECT_TRUE(check_replaceable(directory_.path()));
  for (const char* name : {"policy.toml", "policy.d", "policy.d/10-a.toml", "identity.d"}) {
    const std::string path = directory_.path(name);
    std::filesystem::rename(path, directory_.path("target"));
    std::filesystem::create_symlink(directory_.path("target"), path);
    const Status checked = check_replaceable(directory_.path());
    ASSERT_FALSE(checked) << name;
    EXPECT_THAT(checked.error().message, HasSubstr("'" + path + "' is a symbolic link"));
    EXPECT_THAT(checked.error().hint, HasSubstr("manages these files"));
    std::filesystem::remove(path);
    std::filesystem::rename(directory_.path("target"), path);
  }
  std::filesystem::create_symlink(directory_.path("nowhere"), directory_.path("policy.d/z.toml"));
  EXPECT_FALSE(check_replaceable(directory_.path())) << "a dangling link";
}

TEST_F(FileSetTest, OtherTypesAreRefused) {
  std::filesystem::create_directory(directory_.path("policy.d/directory.toml"));
  const Status checked = check_replaceable(directory_.path());
  ASSERT_FALSE(checked);
  EXPECT_THAT(checked.error().message, HasSubstr("not a regular file"));
  std::filesystem::remove(directory_.path("policy.d/directory.toml"));
  std::filesystem::remove_all(directory_.path("identity.d"));
  directory_.write("identity.d", "a file\n");
  EXPECT_FALSE(check_replaceable(directory_.path()));
  EXPECT_FALSE(check_replaceable(directory_.path("missing")));
}

TEST_F(FileSetTest, WhatLoadCannotReadIsNotRemoved) {
  for (const char* name : {"policy.toml", "policy.d/big.toml", "identity.d/a\nb.toml"}) {
    const std::string path = directory_.path(name);
    const auto content = read_file(path);
    const bool is_name = std::string(name).find('\n') != std::string::npos;
    directory_.write(name, is_name ? "" : std::string(kMaxFileBytes + 1, '#'));
    const Status checked = check_replaceable(directory_.path());
    ASSERT_FALSE(checked) << name;
    EXPECT_THAT(checked.error().message,
                HasSubstr(is_name ? "control character" : "removed without a copy"));
    std::filesystem::remove(path);
    if (content) {
      directory_.write(name, *content);
    }
    EXPECT_TRUE(check_replaceable(directory_.path()));
  }
}

TEST_F(FileSetTest, AllFilesTogetherHaveALimit) {
  const std::string most(kMaxFileBytes, '#');
  for (std::size_t size = 0; size < kMaxTotalBytes; size += kMaxFileBytes) {
    directory_.write(fmt::format("policy.d/90-{:02}.toml", size / kMaxFileBytes), most);
  }
  const Configuration loaded = load(directory_.path(), KeyFiles::optional);
  EXPECT_FALSE(loaded.valid());
  EXPECT_THAT(texts(loaded), ::testing::Contains(HasSubstr("policy.d/90-07.toml: error: with this "
                                                           "file, the TOML files")));
  std::size_t kept = 0;
  for (const Source& source : loaded.policy_sources) {
    kept += source.content.size();
  }
  EXPECT_LE(kept, kMaxTotalBytes);
  const Status checked = check_replaceable(directory_.path());
  ASSERT_FALSE(checked);
  EXPECT_THAT(checked.error().message, HasSubstr("removed without a copy"));
  std::filesystem::remove(directory_.path("policy.d/90-07.toml"));
  EXPECT_TRUE(load(directory_.path(), KeyFiles::optional).valid());
  EXPECT_TRUE(check_replaceable(directory_.path()));
}

TEST_F(FileSetTest, DigestsAreOfNamesAndContents) {
  FileSet other = kOld;
  EXPECT_EQ(digests_of(other), digests_of(kOld));
  other.policy[1].file = "policy.d/11-a.toml";
  EXPECT_NE(digests_of(other).policy, digests_of(kOld).policy);
  EXPECT_EQ(digests_of(other).identity, digests_of(kOld).identity);
  EXPECT_EQ(digests_of(kOld).policy, policy::hex(parse(kOld.policy, {}).policy.digest));
}

TEST_F(FileSetTest, JsonIsReadBackAndChecked) {
  const auto read = file_set(to_json(kOld));
  ASSERT_TRUE(read);
  EXPECT_EQ(digests_of(*read), digests_of(kOld));
  for (const char* name :
       {"../policy.toml", "policy.d/../x.toml", "policy.d/sub/x.toml", "/etc/passwd",
        "policy.d/.x.toml", "policy.d/x", "policy.d/a\nb.toml", "identity.toml", "host.key", ""}) {
    const nlohmann::json source = {{"file", name}, {"content", ""}};
    const nlohmann::json value = {{"policy", nlohmann::json::array({source})},
                                  {"identity", nlohmann::json::array()}};
    EXPECT_FALSE(file_set(value)) << name;
  }
  for (const char* text : {"null", "[]", "{}", R"({"policy": []})", R"({"policy": 1})"}) {
    EXPECT_FALSE(file_set(nlohmann::json::parse(text))) << text;
  }
}

TEST_F(FileSetTest, KeysAreReadWhereTheFilesWillBe) {
  TemporaryDirectory other;
  other.write("identity.toml", "[trust]\npsk_file = \"psk\"\n");
  EXPECT_FALSE(load(other.path()).valid());
  EXPECT_FALSE(load_for(directory_.path(), other.path()).valid());
  directory_.write("psk", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n");
  ASSERT_EQ(::chmod(directory_.path("psk").c_str(), 0600), 0);
  const Configuration loaded = load_for(directory_.path(), other.path());
  EXPECT_TRUE(loaded.valid());
  EXPECT_THAT(loaded.identity_sources,
              ElementsAre(::testing::Field(&Source::file, "identity.toml")));
  EXPECT_EQ(loaded.trust.psk.path, directory_.path("psk"));
}

}  // namespace
}  // namespace trireme::config
