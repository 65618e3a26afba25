// SPDX-License-Identifier: Apache-2.0
// A check reports the errors that the daemon would report in the sandbox of its unit.
#include "trireme/config/sandbox.hpp"

#include <gmock/gmock.h>
#include <grp.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>

#include "config_support.hpp"

namespace trireme::config {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

TEST(Sandbox, HidesHomesAndPrivateDirectories) {
  const Sandbox sandbox = Sandbox::parse({"[Service]\nProtectHome=yes\nPrivateTmp=yes\n"});
  EXPECT_EQ(sandbox.hides("/root/key.pem"), "ProtectHome=yes");
  EXPECT_EQ(sandbox.hides("/home"), "ProtectHome=yes");
  EXPECT_EQ(sandbox.hides("/run/user/1000/x"), "ProtectHome=yes");
  EXPECT_EQ(sandbox.hides("/tmp/x"), "PrivateTmp=yes");
  EXPECT_EQ(sandbox.hides("/etc/trireme/../../root/x"), "ProtectHome=yes");
  for (const char* visible : {"/etc/trireme/key.pem", "/homestead/x", "/rooted", "/"}) {
    EXPECT_EQ(sandbox.hides(visible), "") << visible;
  }
  EXPECT_EQ(Sandbox::parse({"[Service]\nProtectHome=read-only\n"}).hides("/root/x"), "");
  EXPECT_EQ(Sandbox::parse({"[Unit]\nProtectHome=yes\n"}).hides("/root/x"), "");
  EXPECT_EQ(Sandbox::parse({"[Service]\n# ProtectHome=yes\n"}).hides("/root/x"), "");
}

TEST(Sandbox, DropInsCountAfterTheUnit) {
  const std::string unit = "[Service]\nProtectHome=yes\nInaccessiblePaths=-/srv/a \\\n  /srv/b\n";
  const Sandbox sandbox = Sandbox::parse({unit, "[Service]\nProtectHome=no\n"});
  EXPECT_EQ(sandbox.hides("/root/x"), "");
  EXPECT_EQ(sandbox.hides("/srv/a/x"), "InaccessiblePaths=-/srv/a");
  EXPECT_EQ(sandbox.hides("/srv/b"), "InaccessiblePaths=/srv/b");
  EXPECT_EQ(Sandbox::parse({unit, "[Service]\nInaccessiblePaths=\n"}).hides("/srv/a"), "");
  EXPECT_EQ(Sandbox::parse({unit, "[Service]\nBindReadOnlyPaths=/x:/root/keys\n"})
                .hides("/root/keys/host.key"),
            "");
  EXPECT_EQ(Sandbox::parse({"[Service]\nTemporaryFileSystem=/var:ro\n"}).hides("/var/x"),
            "TemporaryFileSystem=/var:ro");
}

TEST(Sandbox, KnowsWhetherModesHoldForRoot) {
  EXPECT_TRUE(Sandbox::parse({"[Service]\n"}).ignores_modes());
  EXPECT_FALSE(Sandbox::parse({"[Service]\nCapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW\n"})
                   .ignores_modes());
  EXPECT_TRUE(Sandbox::parse({"[Service]\nCapabilityBoundingSet=CAP_NET_ADMIN\n",
                              "[Service]\nCapabilityBoundingSet=CAP_DAC_READ_SEARCH\n"})
                  .ignores_modes());
  EXPECT_FALSE(Sandbox::parse({"[Service]\nCapabilityBoundingSet=~CAP_DAC_OVERRIDE "
                               "CAP_DAC_READ_SEARCH\n"})
                   .ignores_modes());
  EXPECT_TRUE(
      Sandbox::parse({"[Service]\nCapabilityBoundingSet=~CAP_SYS_ADMIN\n"}).ignores_modes());
}

TEST(Sandbox, KnowsTheDirectoryOfTheDaemon) {
  EXPECT_EQ(Sandbox::parse({"[Service]\n"}).config_dir(), "/etc/trireme");
  EXPECT_EQ(Sandbox::parse({"[Service]\nExecStart=/usr/sbin/triremed\n"}).config_dir(),
            "/etc/trireme");
  EXPECT_EQ(Sandbox::parse({"[Service]\nExecStart=/usr/sbin/triremed --config-dir /srv/t -x\n"})
                .config_dir(),
            "/srv/t");
  EXPECT_EQ(Sandbox::parse({"[Service]\nExecStart=/usr/sbin/triremed --config-dir=\"/srv/t\"\n"})
                .config_dir(),
            "/srv/t");
  EXPECT_EQ(
      Sandbox::parse({"[Service]\nExecStart=/usr/sbin/triremed\n",
                      "[Service]\nExecStart=\nExecStart=/usr/sbin/triremed --config-dir /a\n"})
          .config_dir(),
      "/a");
  EXPECT_EQ(
      Sandbox::parse({"[Service]\nExecStartPre=/usr/sbin/triremed --config-dir /a\n"}).config_dir(),
      "/etc/trireme");
}

TEST(Sandbox, ACheckOfTheUnitsDirectoryIsTheDaemons) {
  const TemporaryDirectory directory;
  directory.write("etc/policy.toml", "");
  directory.write("units/trireme.service",
                  "[Service]\nInaccessiblePaths=" + directory.path("etc/policy.toml") +
                      "\nExecStart=/usr/sbin/triremed --config-dir " + directory.path("etc") +
                      "\n");
  ASSERT_EQ(::setenv("SYSTEMD_UNIT_PATH", directory.path("units").c_str(), 1), 0);
  EXPECT_THAT(texts(check(directory.path("etc"))),
              testing::ElementsAre(HasSubstr("policy.toml: error: the daemon cannot access")));
  directory.write("other/policy.toml", "");
  EXPECT_TRUE(check(directory.path("other")).valid());
  ::unsetenv("SYSTEMD_UNIT_PATH");
}

TEST(Sandbox, IsThatOfTheInstalledUnit) {
  const TemporaryDirectory units;
  ASSERT_EQ(::setenv("SYSTEMD_UNIT_PATH", units.path().c_str(), 1), 0);
  EXPECT_FALSE(Sandbox::installed());
  units.write("trireme.service", "[Service]\nProtectHome=yes\n");
  ASSERT_TRUE(Sandbox::installed());
  EXPECT_EQ(Sandbox::installed()->hides("/root/x"), "ProtectHome=yes");
  units.write("trireme.service.d/local.conf", "[Service]\nProtectHome=no\n");
  EXPECT_EQ(Sandbox::installed()->hides("/root/x"), "");
  ::unsetenv("SYSTEMD_UNIT_PATH");
}

class AsTheDaemon : public testing::Test {
 protected:
  /// Loads with a sandbox that hides `hidden` and has no capability to override file modes.
  Configuration load(bool reads) {
    const Sandbox sandbox =
        Sandbox::parse({"[Service]\nCapabilityBoundingSet=CAP_NET_ADMIN\n"
                        "InaccessiblePaths=" +
                        directory_.path("hidden") + "\n"});
    return load_as_daemon(directory_.path("etc"), sandbox, reads);
  }
  static std::string problems(const Configuration& configuration) {
    std::string text;
    for (const Diagnostic& diagnostic : configuration.diagnostics) {
      text += diagnostic.text() + "\n";
    }
    return text;
  }
  TemporaryDirectory directory_;
};

TEST_F(AsTheDaemon, AFileBehindAHiddenDirectoryIsAnError) {
  directory_.write("etc/policy.toml", "[defaults]\nmode = \"enforce\"\n");
  EXPECT_TRUE(load(true).valid());
  directory_.write("hidden/extra.toml", "[[allow]]\nfrom = \"app=web\"\nto = \"app=db\"\n");
  fs::create_directory(directory_.path("etc/policy.d"));
  fs::create_symlink(directory_.path("hidden/extra.toml"), directory_.path("etc/policy.d/a.toml"));
  const Configuration configuration = load(true);
  EXPECT_FALSE(configuration.valid());
  EXPECT_THAT(problems(configuration),
              HasSubstr("policy.d/a.toml: error: the daemon cannot access"));
  EXPECT_THAT(problems(configuration), HasSubstr("InaccessiblePaths="));
  EXPECT_TRUE(load(false).valid()) << "the daemon reads another directory";
}

TEST_F(AsTheDaemon, ASecretBehindAHiddenDirectoryIsAnErrorWhereItIsNamed) {
  directory_.write("hidden/psk", std::string(64, 'a'));
  ASSERT_EQ(::chmod(directory_.path("hidden/psk").c_str(), 0600), 0);
  directory_.write("etc/identity.toml",
                   "[trust]\npsk_file = \"" + directory_.path("hidden/psk") + "\"\n");
  for (const bool reads : {true, false}) {
    EXPECT_THAT(problems(load(reads)),
                HasSubstr("identity.toml:2:12: error: the daemon cannot access"));
  }
}

TEST_F(AsTheDaemon, TheFileOfAnotherUserIsKeptFromRoot) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "requires root";
  }
  directory_.write("etc/policy.toml", "");
  ASSERT_EQ(::chown(directory_.path("etc/policy.toml").c_str(), 65534, 65534), 0);
  ASSERT_EQ(::chmod(directory_.path("etc/policy.toml").c_str(), 0600), 0);
  EXPECT_THAT(problems(load(true)), HasSubstr("chown root"));
  EXPECT_TRUE(load(false).valid());
  EXPECT_TRUE(config::load(directory_.path("etc")).valid()) << "the capabilities are restored";
}

/// Runs `test` in a child process as the user nobody.
void as_nobody(const std::function<void()>& test) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const bool changed = ::setgroups(0, nullptr) == 0 && ::setresgid(65534, 65534, 65534) == 0 &&
                         ::setresuid(65534, 65534, 65534) == 0;
    if (changed) {
      test();
    }
    ::_exit(changed && !testing::Test::HasFailure() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// A check by another user reports what the daemon, root without CAP_DAC_OVERRIDE, would report.
TEST_F(AsTheDaemon, WithoutRootTheModesTell) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "requires root";
  }
  directory_.write("etc/policy.toml", "");
  ASSERT_EQ(::chmod(directory_.path().c_str(), 0755), 0);
  for (const char* name : {"etc", "etc/policy.toml"}) {
    ASSERT_EQ(::chown(directory_.path(name).c_str(), 65534, 65534), 0);
  }
  ASSERT_EQ(::chmod(directory_.path("etc/policy.toml").c_str(), 0600), 0);
  as_nobody([this] {
    EXPECT_THAT(problems(load(true)), HasSubstr("policy.toml: error: the daemon cannot read"));
    EXPECT_THAT(problems(load(true)), HasSubstr("chown root"));
    EXPECT_TRUE(load(false).valid()) << "the daemon reads another directory";
  });
  ASSERT_EQ(::chmod(directory_.path("etc/policy.toml").c_str(), 0644), 0);
  as_nobody([this] { EXPECT_EQ(problems(load(true)), ""); });
  ASSERT_EQ(::chmod(directory_.path("etc").c_str(), 0700), 0);
  as_nobody([this] { EXPECT_THAT(problems(load(true)), HasSubstr("the daemon cannot read")); });
}

TEST_F(AsTheDaemon, WithoutRootKeysOfRootAreNotChecked) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "requires root";
  }
  directory_.write("etc/identity.toml", "[trust]\npsk_file = 'psk'\n");
  directory_.write("etc/psk", std::string(64, 'a'));
  ASSERT_EQ(::chmod(directory_.path().c_str(), 0755), 0);
  ASSERT_EQ(::chmod(directory_.path("etc/psk").c_str(), 0600), 0);
  as_nobody([this] {
    const Configuration configuration = check(directory_.path("etc"));
    EXPECT_TRUE(configuration.valid()) << problems(configuration);
    EXPECT_THAT(problems(configuration), HasSubstr("run as root to check the files of [trust]"));
  });
  ASSERT_EQ(::chown(directory_.path("etc/psk").c_str(), 65534, 65534), 0);
  as_nobody([this] {
    EXPECT_THAT(problems(check(directory_.path("etc"))),
                HasSubstr("contains a secret and is owned by user"));
  });
  fs::remove(directory_.path("etc/psk"));
  as_nobody([this] {
    EXPECT_FALSE(check(directory_.path("etc")).valid()) << "the daemon cannot read it either";
  });
}

}  // namespace
}  // namespace trireme::config
