// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "config_support.hpp"

namespace trireme::config {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Load : public testing::Test {
 protected:
  [[nodiscard]] Configuration load() const { return config::load(directory_.path()); }
  [[nodiscard]] std::vector<std::string> rule_names() const {
    std::vector<std::string> names;
    for (const auto& rule : load().policy.rules) {
      names.push_back(rule.name);
    }
    return names;
  }
  void write_rule(const std::string& file, const std::string& name) const {
    directory_.write(file, "[[allow]]\nname = '" + name + "'\nfrom = '*'\nto = '*'\n");
  }

  TemporaryDirectory directory_;
};

TEST_F(Load, AnEmptyDirectoryIsTheDefaultPolicyOfThisHost) {
  const Configuration configuration = load();
  EXPECT_THAT(texts(configuration), IsEmpty());
  char name[256] = {};
  ASSERT_EQ(::gethostname(name, sizeof name), 0);
  EXPECT_EQ(configuration.host.name, name);
}

TEST_F(Load, AMissingDirectoryIsAnError) {
  EXPECT_THAT(
      texts(config::load(directory_.path("none"))),
      ElementsAre("error: cannot read the configuration directory '" + directory_.path("none") +
                  "': No such file or directory; set it with --config-dir"));
  directory_.write("file", "");
  EXPECT_THAT(texts(config::load(directory_.path("file"))),
              ElementsAre(HasSubstr("not a directory")));
}

TEST_F(Load, ReadsDropInsInLexicalOrderAfterTheMainFile) {
  write_rule("policy.d/20-b.toml", "3");
  write_rule("policy.d/10-a.toml", "2");
  write_rule("policy.d/9.toml", "4");
  write_rule("policy.toml", "1");
  EXPECT_THAT(rule_names(), ElementsAre("1", "2", "3", "4"));
}

TEST_F(Load, ThePolicysDigestIsOfNamesAndContents) {
  const auto digest = [this] { return policy::hex(load().policy.digest); };
  // SHA-256 of the empty string.
  EXPECT_EQ(digest(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  write_rule("policy.toml", "1");
  const std::string one = digest();
  directory_.write("identity.toml", "[host]\nname = 'other'\n");
  EXPECT_EQ(digest(), one) << "the digest does not cover identity.toml";
  write_rule("policy.d/10.toml", "2");
  const std::string both = digest();
  EXPECT_NE(both, one);
  fs::rename(directory_.path("policy.d/10.toml"), directory_.path("policy.d/20.toml"));
  EXPECT_NE(digest(), both);
  fs::rename(directory_.path("policy.d/20.toml"), directory_.path("policy.d/10.toml"));
  EXPECT_EQ(digest(), both);
  EXPECT_EQ(policy::hex(config::load_policy(directory_.path(), {}).policy.digest), both);
}

// Hosts have different identities and the same policy, so each set of files has its own digest.
TEST_F(Load, TheIdentitysDigestIsItsOwn) {
  const auto digest = [this] { return policy::hex(load().host.digest); };
  EXPECT_EQ(digest(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  directory_.write("identity.toml", "[host]\nname = 'other'\n[trust]\npsk_file = 'psk'\n");
  const std::string one = digest();
  EXPECT_EQ(one, policy::hex(load().host.digest));
  write_rule("policy.toml", "1");
  directory_.write("psk", "a secret");
  EXPECT_EQ(digest(), one) << "the digest covers neither the policy nor keys";
  directory_.write("identity.d/10.toml", "[docker]\n");
  const std::string both = digest();
  EXPECT_NE(both, one);
  fs::rename(directory_.path("identity.d/10.toml"), directory_.path("identity.d/20.toml"));
  EXPECT_NE(digest(), both);
}

TEST_F(Load, LeavesOtherNamesAlone) {
  for (const char* name : {"policy.d/.hidden.toml", "policy.d/a.toml~", "policy.d/a.toml.bak",
                           "policy.d/README", "policy.d/.a.toml.swp"}) {
    directory_.write(name, "no toml at all");
  }
  fs::create_directory(directory_.path("policy.d/dir"));
  EXPECT_THAT(texts(load()), IsEmpty());
}

TEST_F(Load, FileNamesAreRelativeToTheDirectory) {
  directory_.write("policy.toml", "x = 1\n");
  directory_.write("policy.d/10-a.toml", "[default]\n");
  directory_.write("identity.toml", "[[unit]]\n");
  directory_.write("identity.d/b.toml", "y = 2\n");
  EXPECT_THAT(texts(load()), ElementsAre(HasSubstr("policy.toml:1:1: error: "),
                                         HasSubstr("policy.d/10-a.toml:1:2: error: "),
                                         HasSubstr("identity.toml:1:1: error: "),
                                         HasSubstr("identity.toml:1:1: error: "),
                                         HasSubstr("identity.d/b.toml:1:1: error: ")));
}

TEST_F(Load, FollowsSymbolicLinks) {
  write_rule("..v1/policy.toml", "linked");
  write_rule("..v1/drop.toml", "dropped");
  fs::create_symlink("..v1", directory_.path("..data"));
  fs::create_symlink("..data/policy.toml", directory_.path("policy.toml"));
  fs::create_directory(directory_.path("policy.d"));
  fs::create_symlink("../..data/drop.toml", directory_.path("policy.d/drop.toml"));
  EXPECT_THAT(rule_names(), ElementsAre("linked", "dropped"));
}

TEST_F(Load, ALinkToNowhereIsAnErrorAMissingFileIsNot) {
  fs::create_symlink("gone.toml", directory_.path("policy.toml"));
  EXPECT_THAT(texts(load()),
              ElementsAre("policy.toml: error: cannot read the file: No such file or directory"));
}

TEST_F(Load, ThePolicyAloneIsReadWithTheSameErrors) {
  fs::create_symlink("gone.toml", directory_.path("policy.toml"));
  directory_.write("identity.toml", "not toml");
  EXPECT_THAT(texts(load_policy(directory_.path(), {})),
              ElementsAre("policy.toml: error: cannot read the file: No such file or directory"));
  EXPECT_THAT(texts(load_policy(directory_.path("none"), {})),
              ElementsAre(HasSubstr("cannot read the configuration directory")));
  fs::remove(directory_.path("policy.toml"));
  ASSERT_EQ(::mkfifo(directory_.path("policy.toml").c_str(), 0600), 0);
  EXPECT_THAT(texts(load_policy(directory_.path(), {})),
              ElementsAre(HasSubstr("policy.toml: error: not a regular file")));
}

TEST_F(Load, ThePolicyAloneIsTestedByMoreFilesToo) {
  write_rule("policy.toml", "1");
  write_rule("policy.d/a.toml", "2");
  const std::string refused =
      "[[test]]\nfrom = { app = 'a' }\nto = { app = 'b' }\nexpect = 'deny'\n";
  const auto configuration = load_policy(directory_.path(), {{"more.toml", refused}});
  EXPECT_EQ(configuration.policy.rules.size(), 2U);
  EXPECT_THAT(texts(configuration),
              ElementsAre(HasSubstr("policy.d/a.toml:1:1: warning: this rule repeats"),
                          HasSubstr("more.toml:1:1: error: test failed")));
}

TEST_F(Load, TakesOnlyRegularFiles) {
  fs::create_directories(directory_.path("policy.d/dir.toml"));
  ASSERT_EQ(::mkfifo(directory_.path("identity.toml").c_str(), 0600), 0);
  EXPECT_THAT(texts(load()),
              testing::UnorderedElementsAre("policy.d/dir.toml: error: not a regular file; remove "
                                            "it, or rename it so that it does not end in .toml",
                                            "identity.toml: error: not a regular file; remove it, "
                                            "or rename it so that it does not end in .toml"));
}

TEST_F(Load, BoundsTheSizeOfAFile) {
  directory_.write("policy.toml", std::string((4U << 20U) + 1, '#'));
  directory_.write("identity.toml", std::string(4U << 20U, '#'));
  EXPECT_THAT(texts(load()), ElementsAre(HasSubstr("policy.toml: error: cannot read ")));
}

TEST_F(Load, WarnsOfAFileThatEverybodyCanWrite) {
  write_rule("policy.toml", "1");
  ASSERT_EQ(::chmod(directory_.path("policy.toml").c_str(), 0666), 0);
  EXPECT_THAT(texts(load()),
              ElementsAre("policy.toml: warning: this file is world-writable; run 'chmod o-w " +
                          directory_.path("policy.toml") + "'"));
}

TEST_F(Load, WarnsOfUsersAndGroupsThatDoNotExist) {
  directory_.write("identity.toml",
                   "[[launch]]\nuser = 'no-such-user'\nlabels = ['app=a']\n[[launch]]\ngroup = "
                   "'no-such-group'\nlabels = "
                   "['app=a']\n[[launch]]\nuser = 'root'\nlabels = ['app=a']\n");
  const Configuration configuration = load();
  EXPECT_TRUE(configuration.valid());
  EXPECT_THAT(texts(configuration),
              ElementsAre("identity.toml:1:1: warning: user 'no-such-user' does not exist; the "
                          "[[launch]] entry takes effect once the user exists",
                          "identity.toml:4:1: warning: group 'no-such-group' does not exist; the "
                          "[[launch]] entry takes effect once the group exists"));
}

}  // namespace
}  // namespace trireme::config
