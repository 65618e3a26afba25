// SPDX-License-Identifier: Apache-2.0
// Which users besides root may launch what: the [[launch]] entries, and the launcher that applies
// them.
#include <gmock/gmock.h>

#include <map>
#include <optional>

#include "trireme/systemd/launcher.hpp"
#include "workload_support.hpp"

namespace trireme::systemd {
namespace {

using ::testing::HasSubstr;
using workload::test::labels;

constexpr std::uint32_t kNobody = 65534;
constexpr std::uint32_t kUser = 4'000'000'001;  // a uid and gid without an entry in passwd or group
constexpr std::uint32_t kGroup = 4'000'000'002;

config::LaunchGrant grant(const std::string& user, const std::string& group,
                          std::vector<policy::Label> allowed) {
  config::LaunchGrant entry;
  entry.user = user;
  entry.group = group;
  entry.labels = std::move(allowed);
  return entry;
}

std::shared_ptr<const config::Host> identity(std::vector<config::LaunchGrant> launches) {
  auto made = std::make_shared<config::Host>();
  made->launches = std::move(launches);
  return made;
}

TEST(LaunchGrants, AreForAUserByNameOrNumber) {
  LaunchGrants grants;
  grants.configure(identity(
      {grant("nobody", "", {{"app", "web"}}), grant(std::to_string(kUser), "", {{"app", "db"}})}));
  EXPECT_TRUE(grants.permits(kNobody, {}, labels({{"app", "web"}})));
  EXPECT_TRUE(grants.permits(kUser, {}, labels({{"app", "db"}})));
  EXPECT_FALSE(grants.permits(kUser, {}, labels({{"app", "web"}})));
  EXPECT_FALSE(grants.permits(kUser, {kNobody}, labels({{"app", "web"}})))
      << "a group of that number is not the user";
}

TEST(LaunchGrants, AreForAnyOfTheCallersGroups) {
  LaunchGrants grants;
  grants.configure(identity({grant("", std::to_string(kGroup), {{"app", "web"}})}));
  EXPECT_TRUE(grants.permits(kUser, {7, kGroup}, labels({{"app", "web"}})));
  EXPECT_FALSE(grants.permits(kUser, {7}, labels({{"app", "web"}})));
  EXPECT_FALSE(grants.permits(kGroup, {}, labels({{"app", "web"}})))
      << "a user of that number is not the group";
}

TEST(LaunchGrants, OneEntryCoversEveryLabel) {
  LaunchGrants grants;
  grants.configure(identity({grant("nobody", "", {{"app", "web"}, {"env", "dev-*"}}),
                             grant("nobody", "", {{"tier", "front"}})}));
  EXPECT_TRUE(grants.permits(kNobody, {}, labels({{"app", "web"}, {"env", "dev-1"}})));
  EXPECT_TRUE(grants.permits(kNobody, {}, labels({{"tier", "front"}})));
  const auto split = grants.permits(kNobody, {}, labels({{"app", "web"}, {"tier", "front"}}));
  ASSERT_FALSE(split) << "two entries are not combined";
  EXPECT_THAT(split.error().message, HasSubstr("app=web,tier=front"));
  EXPECT_THAT(split.error().hint, HasSubstr("no single [[launch]] entry"));
  EXPECT_FALSE(grants.permits(kNobody, {}, labels({{"env", "prod"}})));
  EXPECT_FALSE(grants.permits(kNobody, {}, labels({{"env", "dev"}}))) << "'dev-*' needs the dash";
}

TEST(LaunchGrants, WhoHasNoneIsToldSo) {
  LaunchGrants grants;
  grants.configure(identity({}));
  const auto refused = grants.permits(kUser, {kGroup}, labels({{"app", "web"}}));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr(std::to_string(kUser)));
  EXPECT_THAT(refused.error().hint, HasSubstr("[[launch]]"));
}

TEST(LaunchGrants, AnUnknownNameIsNobody) {
  LaunchGrants grants;
  grants.configure(identity(
      {grant("no-such-user", "", {{"app", "*"}}), grant("", "no-such-group", {{"app", "*"}}),
       grant("0x0", "", {{"app", "*"}}), grant("4294967296", "", {{"app", "*"}})}));
  for (const std::uint32_t uid : {0U, kNobody, kUser, UINT32_MAX}) {
    EXPECT_FALSE(grants.permits(uid, {uid}, labels({{"app", "web"}}))) << uid;
  }
}

TEST(LaunchGrants, AConfigurationReplacesTheOneBefore) {
  LaunchGrants grants;
  grants.configure(identity({grant("nobody", "", {{"app", "web"}})}));
  grants.configure(identity({grant("nobody", "", {{"app", "db"}})}));
  EXPECT_FALSE(grants.permits(kNobody, {}, labels({{"app", "web"}})));
  EXPECT_TRUE(grants.permits(kNobody, {}, labels({{"app", "db"}})));
}

TEST(LaunchGrants, PropertiesThatOthersThanRootMaySet) {
  for (const char* name : {"Description", "CPUQuota", "CPUWeight", "MemoryMax", "MemoryHigh",
                           "TasksMax", "RuntimeMaxSec", "IOWeight"}) {
    EXPECT_TRUE(property_granted(name)) << name;
  }
  for (const char* name : {"Slice", "Delegate", "IPAddressAllow", "AllowedCPUs", "MemoryMin",
                           "KillSignal", "description", ""}) {
    EXPECT_FALSE(property_granted(name)) << name;
  }
}

TEST(LaunchGrants, UnitsBeginWithTheUsersName) {
  LaunchGrants grants;
  grants.configure(identity({}));
  EXPECT_EQ(grants.unit_prefix(0), "root");
  EXPECT_EQ(grants.unit_prefix(kNobody), "nobody");
  EXPECT_EQ(grants.unit_prefix(kUser), "uid-4000000001");
}

/// A name service that is not the files of the host, as LDAP.
class RemoteNames {
 public:
  NameService service() {
    return {.user_id =
                [this](const std::string& name) {
                  ++lookups;
                  return name == "alice" ? std::optional(kUser) : std::nullopt;
                },
            .group_id =
                [this](const std::string& name) {
                  ++lookups;
                  return name == "staff" ? std::optional(kGroup) : std::nullopt;
                },
            .user_name =
                [this](std::uint32_t uid) {
                  ++lookups;
                  return answers && names.contains(uid) ? std::optional(names.at(uid))
                                                        : std::nullopt;
                }};
  }
  std::map<std::uint32_t, std::string> names = {{kUser, "alice"}, {kUser + 7, "bob"}};
  bool answers = true;
  unsigned lookups = 0;
};

TEST(LaunchGrants, UsersOfANameServiceHaveGrantsAndNames) {
  RemoteNames remote;
  LaunchGrants grants(remote.service());
  grants.configure(
      identity({grant("alice", "", {{"app", "web"}}), grant("", "staff", {{"app", "db"}})}));
  EXPECT_TRUE(grants.permits(kUser, {}, labels({{"app", "web"}})));
  EXPECT_TRUE(grants.permits(kUser + 7, {kGroup}, labels({{"app", "db"}})));
  EXPECT_EQ(remote.lookups, 2U) << "at load";
  EXPECT_EQ(grants.unit_prefix(kUser), "alice");
  EXPECT_EQ(remote.lookups, 2U) << "its entry has the name";
  for (unsigned i = 0; i < 3; ++i) {
    EXPECT_EQ(grants.unit_prefix(kUser + 7), "bob");
  }
  EXPECT_EQ(remote.lookups, 3U) << "once";
  EXPECT_EQ(grants.unit_prefix(kNobody), "nobody");
  EXPECT_EQ(remote.lookups, 3U) << "/etc/passwd has it";
}

TEST(LaunchGrants, ANameServiceThatFailsIsNotAskedAtEachLaunch) {
  RemoteNames remote;
  remote.answers = false;
  LaunchGrants grants(remote.service());
  grants.configure(identity({grant("unknown", "", {{"app", "web"}})}));
  EXPECT_EQ(remote.lookups, 1U);
  for (std::uint32_t i = 0; i < 10; ++i) {
    EXPECT_FALSE(grants.permits(kUser + i, {}, labels({{"app", "web"}})));
    EXPECT_EQ(grants.unit_prefix(kUser + i), "uid-" + std::to_string(kUser + i));
  }
  EXPECT_EQ(remote.lookups, 2U);
}

/// Records requests and refuses them unless `place` is set, because most tests are about the checks
/// before a scope is created.
class FakeScopes final : public ScopeDriver {
 public:
  [[nodiscard]] Status check(const ScopeRequest& /*request*/) const override { return checked; }
  void create(const ScopeRequest& request, Done done) override {
    requests.push_back(request);
    done(place ? place(request) : fail("no scopes today"));
  }
  [[nodiscard]] const std::string& slice() const override { return slice_; }
  [[nodiscard]] const char* name() const override { return "fake"; }

  std::vector<ScopeRequest> requests;
  Status checked;
  std::function<Result<std::string>(const ScopeRequest&)> place;

 private:
  std::string slice_ = "/strict.slice";
};

/// The caller is a child process, so that it can be moved into cgroups.
class LauncherTest : public workload::test::CgroupTest {
 protected:
  void SetUp() override {
    CgroupTest::SetUp();
    if (!IsSkipped()) {
      registry_ = std::make_unique<workload::Registry>(*tree_, kernel_);
      launcher_ = std::make_unique<Launcher>(
          *registry_, scopes_, [](const std::string& name) { return name == "docker-1.scope"; },
          LaunchShares({.is_held = [](std::uint64_t /*id*/) { return true; },
                        .is_scarce = [this] { return scarce_; }},
                       2));
      launcher_->configure(identity({grant("nobody", "", {{"app", "web"}, {"env", "*"}})}));
      make("strict.slice");
      caller_ = std::make_unique<workload::test::Sleeper>();  // in the fixture's network namespace
    }
  }
  LaunchRequest request(std::uint32_t uid) {
    LaunchRequest made;
    made.pid = caller_->pid();
    made.uid = uid;
    made.gid = uid;
    made.labels = labels({{"app", "web"}});
    made.unit = "shop";
    return made;
  }
  Result<Launched> launch(LaunchRequest asked) {
    std::optional<Result<Launched>> outcome;
    launcher_->launch(std::move(asked), [&](Result<Launched> launched) {
      EXPECT_FALSE(outcome) << "`done` is called once";
      outcome = std::move(launched);
    });
    EXPECT_TRUE(outcome);
    return outcome ? *outcome : fail("no outcome");
  }
  std::string refusal(LaunchRequest asked) {
    const auto launched = launch(std::move(asked));
    return launched ? "launched" : launched.error().message;
  }
  /// From now on scopes are created and the caller is moved into them.
  void make_scopes() {
    scopes_.place = [this](const ScopeRequest& asked) -> Result<std::string> {
      const std::string path = make("strict.slice/" + asked.name);
      if (Status placed = tree_->place(path, asked.pid); !placed) {
        return tl::unexpected(placed.error());
      }
      return path;
    };
  }
  void TearDown() override {
    caller_.reset();
    launcher_.reset();
    registry_.reset();
    CgroupTest::TearDown();
  }

  std::unique_ptr<workload::test::Sleeper> caller_;
  workload::test::FakeEnforcement kernel_;
  std::unique_ptr<workload::Registry> registry_;
  FakeScopes scopes_;
  bool scarce_ = false;
  std::unique_ptr<Launcher> launcher_;
};

TEST_F(LauncherTest, PlacesAndEnrolsTheCaller) {
  make_scopes();
  LaunchRequest asked = request(0);
  asked.properties = {"MemoryMax=1G"};
  const auto launched = launch(std::move(asked));
  ASSERT_TRUE(launched) << launched.error().text();
  EXPECT_EQ(launched->name, "shop.scope");
  EXPECT_EQ(launched->cgroup_path, "/strict.slice/shop.scope");
  EXPECT_EQ(launched->number, 1000U);
  ASSERT_EQ(scopes_.requests.size(), 1U);
  EXPECT_EQ(scopes_.requests[0].pid, caller_->pid());
  EXPECT_EQ(scopes_.requests[0].properties.at(0).name, "MemoryMax");
  EXPECT_EQ(kernel_.cgroups.at(id(launched->cgroup_path)).labels, labels({{"app", "web"}}));
  EXPECT_EQ(refusal(request(0)), "a workload named shop.scope already exists");
}

TEST_F(LauncherTest, AScopeThatTheCallerIsNotInIsNotEnrolled) {
  scopes_.place = [this](const ScopeRequest& asked) -> Result<std::string> {
    return make("strict.slice/" + asked.name);
  };
  EXPECT_THAT(refusal(request(0)), HasSubstr("the caller is not in it"));
  EXPECT_EQ(kernel_.enrolments, 0U);
}

TEST_F(LauncherTest, OthersThanRootNeedAGrant) {
  EXPECT_THAT(refusal(request(kUser)), HasSubstr("is not allowed to start workloads"));
  LaunchRequest wrong = request(kNobody);
  wrong.labels = labels({{"app", "db"}});
  EXPECT_THAT(refusal(std::move(wrong)), HasSubstr("with the labels app=db"));
  EXPECT_TRUE(scopes_.requests.empty());
  EXPECT_EQ(refusal(request(kNobody)), "no scopes today");
  ASSERT_EQ(scopes_.requests.size(), 1U);
  EXPECT_EQ(scopes_.requests[0].name, "nobody-shop.scope") << "its unit has the user's name";
}

TEST_F(LauncherTest, EachUserHasAShare) {
  make_scopes();
  const auto start = [this](std::uint32_t uid, const std::string& unit) {
    LaunchRequest asked = request(uid);
    asked.unit = unit;
    return refusal(std::move(asked));
  };
  EXPECT_EQ(start(kNobody, "one"), "launched");
  EXPECT_EQ(start(kNobody, "two"), "launched");
  EXPECT_THAT(start(kNobody, "three"), HasSubstr("has launched 2 commands"))
      << "their sockets are still open";
  for (const char* unit : {"one", "two", "three"}) {
    EXPECT_EQ(start(0, unit), "launched") << "root has no share";
  }
  scarce_ = true;
  EXPECT_EQ(start(0, "four"), "launched");
  EXPECT_THAT(start(kUser, "five"), HasSubstr("is not allowed to start workloads"));
  EXPECT_THAT(start(kNobody, "five"), HasSubstr("only root may launch"));
}

TEST_F(LauncherTest, AGrantMayBeForTheCallersGroups) {
  launcher_->configure(identity({grant("", std::to_string(kGroup), {{"app", "web"}})}));
  EXPECT_THAT(refusal(request(kUser)), HasSubstr("is not allowed to start workloads"));
  LaunchRequest primary = request(kUser);
  primary.gid = kGroup;
  EXPECT_EQ(refusal(std::move(primary)), "no scopes today");
  LaunchRequest supplementary = request(kUser);
  supplementary.groups = {kGroup};
  EXPECT_EQ(refusal(std::move(supplementary)), "no scopes today");
}

TEST_F(LauncherTest, AGrantIsNoLeaveToChangeUserOrSetAnyProperty) {
  LaunchRequest changes = request(kNobody);
  changes.changes_user = true;
  EXPECT_THAT(refusal(std::move(changes)), HasSubstr("only root may choose the user"));
  for (const char* property : {"Slice=trireme-a.slice", "Delegate=yes", "IPAddressAllow=any"}) {
    LaunchRequest asked = request(kNobody);
    asked.properties = {"MemoryMax=1G", property};
    EXPECT_THAT(refusal(std::move(asked)), HasSubstr("only root may set the property")) << property;
  }
  for (const char* property : {"Description=a\n[Unit]\nOnFailure=x.target", "MemoryMax", "=1"}) {
    LaunchRequest asked = request(kNobody);
    asked.properties = {property};
    EXPECT_THAT(refusal(std::move(asked)), HasSubstr("property")) << property;
  }
  EXPECT_TRUE(scopes_.requests.empty());
}

TEST_F(LauncherTest, RefusesNamesThatAreTakenOrWrong) {
  LaunchRequest reserved = request(0);
  reserved.unit = "docker-1";
  EXPECT_THAT(refusal(std::move(reserved)), HasSubstr("a container's name"));
  LaunchRequest wrong = request(0);
  wrong.unit = "a/b";
  EXPECT_THAT(refusal(std::move(wrong)), HasSubstr("must not contain '/'"));
  scopes_.checked = fail("unknown property");
  EXPECT_EQ(refusal(request(0)), "unknown property");
  EXPECT_TRUE(scopes_.requests.empty());
}

TEST_F(LauncherTest, ANameIsMadeWhereNoneIsGiven) {
  LaunchRequest asked = request(0);
  asked.unit = "";
  EXPECT_EQ(refusal(std::move(asked)), "no scopes today");
  ASSERT_EQ(scopes_.requests.size(), 1U);
  EXPECT_THAT(
      scopes_.requests[0].name,
      ::testing::MatchesRegex("trirun-" + std::to_string(caller_->pid()) + "-[0-9a-f]{8}\\.scope"));
}

TEST_F(LauncherTest, RefusesCallersThatItCannotSee) {
  LaunchRequest hidden = request(0);
  hidden.pid = 0;
  EXPECT_THAT(refusal(std::move(hidden)), HasSubstr("not visible"));
  LaunchRequest gone = request(0);
  caller_->stop();
  EXPECT_EQ(refusal(std::move(gone)), "the caller has exited");
  const workload::test::Process elsewhere(true);
  LaunchRequest other = request(0);
  other.pid = elsewhere.pid();
  EXPECT_THAT(refusal(std::move(other)), HasSubstr("another network namespace"));
  EXPECT_TRUE(scopes_.requests.empty());
}

TEST_F(LauncherTest, OthersThanRootLeaveAWorkloadOnlyByAGrantForItsLabels) {
  make_scopes();
  LaunchRequest first = request(0);
  first.labels = labels({{"app", "db"}});
  ASSERT_TRUE(launch(std::move(first)));
  LaunchRequest second = request(kNobody);
  second.unit = "second";
  EXPECT_THAT(refusal(std::move(second)), HasSubstr("whose labels its grant does not cover"));
  LaunchRequest as_root = request(0);
  as_root.unit = "third";
  EXPECT_TRUE(launch(std::move(as_root))) << "root may launch, and is app=web now";
  LaunchRequest covered = request(kNobody);
  covered.unit = "fourth";
  EXPECT_TRUE(launch(std::move(covered)));
}

TEST_F(LauncherTest, NobodyButRootLeavesTheStrictSliceOrAQuarantine) {
  const std::string unknown = make("strict.slice/unknown.scope");
  ASSERT_TRUE(tree_->place(unknown, caller_->pid()));
  EXPECT_THAT(refusal(request(kNobody)), HasSubstr("where all traffic is denied"));
  workload::Description description;
  description.name = "unknown.scope";
  description.cgroup_path = unknown;
  ASSERT_TRUE(registry_->quarantine(description, "a test"));
  EXPECT_THAT(refusal(request(kNobody)), HasSubstr("quarantined workload unknown.scope"));
  EXPECT_EQ(refusal(request(0)), "no scopes today");
}

}  // namespace
}  // namespace trireme::systemd
