// SPDX-License-Identifier: Apache-2.0
// Drop-ins of units with a gate, in the test's own mount namespace.
#include "trireme/systemd/drop_ins.hpp"

#include <gmock/gmock.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "systemd_fake.hpp"
#include "trireme/base/file.hpp"

namespace trireme::systemd {
namespace {

using test::with_own_directories;
using ::testing::HasSubstr;

namespace fs = std::filesystem;

constexpr const char* kLasting = "/etc/systemd/system/";
constexpr const char* kRuntime = "/run/systemd/system/";

std::string file(const std::string& directory, const std::string& unit) {
  return directory + unit + ".d/50-trireme.conf";
}

class DropInsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root";
    }
  }
  static bool apply(const std::set<std::string>& units, const std::set<std::string>& early = {}) {
    const auto changed = DropIns("/usr/bin/trirectl").apply(units, early);
    EXPECT_TRUE(changed) << changed.error().text();
    return changed.value_or(false);
  }
};

TEST_F(DropInsTest, AreThereForEachUnitAndForNoOther) {
  ASSERT_TRUE(with_own_directories([] {
    EXPECT_TRUE(apply({"nginx.service", "postgresql@.service"}));
    const auto content = read_file(file(kLasting, "nginx.service"));
    ASSERT_TRUE(content) << content.error().text();
    EXPECT_THAT(*content, HasSubstr("\n[Unit]\nAfter=trireme.service\n"));
    EXPECT_THAT(*content, HasSubstr("\nExecCondition=+/bin/sh -c '\"/usr/bin/trirectl\" unit-gate "
                                    "\"%n\" || exit 255'\n"));
    EXPECT_EQ(*read_file(file(kLasting, "postgresql@.service")), *content);

    EXPECT_FALSE(apply({"nginx.service", "postgresql@.service"})) << "nothing to change";
    EXPECT_TRUE(apply({"nginx.service"}));
    EXPECT_FALSE(fs::exists(std::string(kLasting) + "postgresql@.service.d"));
    EXPECT_TRUE(fs::exists(file(kLasting, "nginx.service")));
    EXPECT_TRUE(apply({}));
    EXPECT_TRUE(fs::is_empty(kLasting));
  }));
}

TEST_F(DropInsTest, AreWrittenAnewWhereAnotherCommandIsInThem) {
  ASSERT_TRUE(with_own_directories([] {
    apply({"nginx.service"});
    ASSERT_TRUE(write_file(file(kLasting, "nginx.service"), "of an older version"));
    EXPECT_TRUE(apply({"nginx.service"}));
    EXPECT_THAT(*read_file(file(kLasting, "nginx.service")), HasSubstr("unit-gate"));
  }));
}

TEST_F(DropInsTest, OfUnitsThatStartEarlyAreInRun) {
  ASSERT_TRUE(with_own_directories([] {
    apply({"early.service", "late.service"}, {"early.service"});
    EXPECT_TRUE(fs::exists(file(kRuntime, "early.service")));
    EXPECT_FALSE(fs::exists(file(kLasting, "early.service")));
    EXPECT_TRUE(fs::exists(file(kLasting, "late.service")));
    EXPECT_TRUE(apply({"early.service", "late.service"})) << "it is no longer early";
    EXPECT_FALSE(fs::exists(file(kRuntime, "early.service")));
    EXPECT_TRUE(fs::exists(file(kLasting, "early.service")));
  }));
}

TEST_F(DropInsTest, LeaveTheDropInsOfOthersAlone) {
  ASSERT_TRUE(with_own_directories([] {
    const std::string theirs = std::string(kLasting) + "nginx.service.d/10-theirs.conf";
    fs::create_directories(fs::path(theirs).parent_path());
    ASSERT_TRUE(write_file(theirs, "[Service]\n"));
    fs::create_directories(std::string(kLasting) + "other.service.d");
    apply({"nginx.service"});
    apply({});
    EXPECT_TRUE(fs::exists(theirs));
    EXPECT_FALSE(fs::exists(file(kLasting, "nginx.service")));
    EXPECT_TRUE(fs::exists(std::string(kLasting) + "other.service.d"));
  }));
}

TEST_F(DropInsTest, AreInRunWhereEtcIsReadOnly) {
  ASSERT_TRUE(with_own_directories([] {
    EXPECT_TRUE(DropIns("/usr/bin/trirectl").last());
    ASSERT_EQ(::mount("none", "/etc", nullptr, MS_REMOUNT | MS_RDONLY, nullptr), 0);
    EXPECT_FALSE(DropIns("/usr/bin/trirectl").last());
    EXPECT_TRUE(apply({"nginx.service"}));
    EXPECT_TRUE(fs::exists(file(kRuntime, "nginx.service")));
  }));
}

TEST_F(DropInsTest, OneThatCannotBeWrittenIsAnErrorAfterAllWereTried) {
  ASSERT_TRUE(with_own_directories([] {
    ASSERT_TRUE(write_file(std::string(kLasting) + "a.service.d", "a file is in the way"));
    const auto changed = DropIns("/usr/bin/trirectl").apply({"a.service", "b.service"}, {});
    ASSERT_FALSE(changed);
    EXPECT_THAT(changed.error().message, HasSubstr("a.service.d"));
    EXPECT_TRUE(fs::exists(file(kLasting, "b.service")));
  }));
}

TEST_F(DropInsTest, OneThatCannotBeMovedStaysWhereItIs) {
  ASSERT_TRUE(with_own_directories([] {
    apply({"a.service"});
    ASSERT_TRUE(write_file(std::string(kRuntime) + "a.service.d", "a file is in the way"));
    EXPECT_FALSE(DropIns("/usr/bin/trirectl").apply({"a.service"}, {"a.service"}));
    EXPECT_TRUE(fs::exists(file(kLasting, "a.service"))) << "the unit would start without waiting";
  }));
}

TEST_F(DropInsTest, OneThatCannotBeRemovedIsAnErrorAfterAllWereTried) {
  ASSERT_TRUE(with_own_directories([] {
    apply({"b.service"});
    fs::create_directories(file(kLasting, "a.service") + "/not-empty");
    const auto changed = DropIns("/usr/bin/trirectl").apply({}, {});
    ASSERT_FALSE(changed);
    EXPECT_THAT(changed.error().message, HasSubstr("cannot remove " + file(kLasting, "a.service")));
    EXPECT_FALSE(fs::exists(file(kLasting, "b.service")));
  }));
}

TEST_F(DropInsTest, AUnitHasThoseOfItsNamesItsTemplateAndItsPrefix) {
  const std::set<std::string> units = {"mysql.service", "db@.service", "batch-.service"};
  for (const char* name :
       {"mysql.service", "db@1.service", "db@.service", "batch-1.service", "batch-1-2.service"}) {
    EXPECT_TRUE(DropIns::cover(units, {"other.service", name})) << name;
  }
  for (const char* name : {"mysql2.service", "db.service", "batch.service", "batch1.service"}) {
    EXPECT_FALSE(DropIns::cover(units, {"other.service", name})) << name;
  }
  EXPECT_FALSE(DropIns::cover({}, {"mysql.service"}));
}

TEST_F(DropInsTest, KeepWhatHasAnotherRootFromStarting) {
  ASSERT_TRUE(with_own_directories([] {
    EXPECT_TRUE(*DropIns("/usr/bin/trirectl").apply({"a.service"}, {}, {"a.service"}));
    const auto content = read_file(file(kLasting, "a.service"));
    ASSERT_TRUE(content);
    EXPECT_THAT(*content, HasSubstr("\nAssertPathExists=/trireme/"));
    EXPECT_THAT(*content, ::testing::Not(HasSubstr("ExecCondition")));
    EXPECT_TRUE(apply({"a.service"})) << "the unit has no root of its own any more";
  }));
}

TEST_F(DropInsTest, AreFoundByAnyName) {
  ASSERT_TRUE(with_own_directories([] {
    apply({"mysql.service", "db@.service", "batch-.service"}, {"db@.service"});
    EXPECT_TRUE(DropIns::exist({"mariadb.service", "mysql.service"}));
    EXPECT_TRUE(DropIns::exist({"db@1.service"}));
    EXPECT_TRUE(DropIns::exist({"batch-7.service"}));
    EXPECT_FALSE(DropIns::exist({"mariadb.service", "db.service", "batch.service"}));
  }));
}

}  // namespace
}  // namespace trireme::systemd
