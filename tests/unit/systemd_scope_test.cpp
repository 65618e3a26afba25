// SPDX-License-Identifier: Apache-2.0
// Scopes that systemd creates, and trirun's requests with them.
#include <gmock/gmock.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "systemd_fake.hpp"
#include "trireme/systemd/launcher.hpp"
#include "trireme/systemd/scope.hpp"
#include "workload_support.hpp"

namespace trireme::systemd {
namespace {

using std::chrono::seconds;
using test::BusTest;
using test::FakeManager;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

constexpr const char* kStart = "StartTransientUnit";

class ScopesOfSystemd : public BusTest {
 protected:
  /// Set when `done` was called: the path of the scope, or the error's message.
  using Outcome = std::shared_ptr<std::optional<std::string>>;

  void SetUp() override {
    BusTest::SetUp();
    if (!IsSkipped()) {
      connect();
      scopes_ = std::make_unique<SystemdScopes>(loop_, *bus_);
    }
  }
  void TearDown() override {
    scopes_.reset();
    BusTest::TearDown();
  }
  Outcome create(const std::string& name, std::vector<Property> properties = {}) {
    auto outcome = std::make_shared<std::optional<std::string>>();
    scopes_->create({.name = name, .pid = 4711, .properties = std::move(properties)},
                    [outcome](const Result<std::string>& path) {
                      EXPECT_FALSE(*outcome) << "`done` is called once";
                      *outcome = path ? *path : path.error().message;
                    });
    return outcome;
  }
  /// Like create(), and waits for the outcome.
  std::string outcome_of(const std::string& name, std::vector<Property> properties = {}) {
    return outcome_of(create(name, std::move(properties)));
  }
  std::string outcome_of(const Outcome& outcome) {
    EXPECT_TRUE(await([&] { return outcome->has_value(); })) << "no outcome";
    return outcome->value_or("");
  }
  [[nodiscard]] bool await_starts(std::size_t count) {
    return await([&] { return manager_->count(kStart) >= count; });
  }
  void start_all() {
    manager_->when_started([](const FakeManager::Start& /*start*/) { return "done"; });
  }

  std::unique_ptr<SystemdScopes> scopes_;
};

TEST_F(ScopesOfSystemd, APropertyThatIsNotKnownIsNotSent) {
  EXPECT_THAT(outcome_of("a.scope", {{"MemoryMax", "1G"}, {"ExecStart", "/bin/sh"}}),
              HasSubstr("unknown property 'ExecStart'"));
  EXPECT_THAT(outcome_of("a.scope", {{"TasksMax", "many"}}), HasSubstr("TasksMax"));
  EXPECT_THAT(outcome_of("a.scope", {{"Slice", "system.slice"}}),
              HasSubstr("not below trireme.slice"));
  EXPECT_EQ(manager_->count(kStart), 0U);
}

TEST_F(ScopesOfSystemd, WhatSystemdRefusesIsAnError) {
  manager_->refuse(kStart, "Unit a.scope already exists.");
  EXPECT_EQ(outcome_of("a.scope"), "systemd: Unit a.scope already exists");
  manager_->answer_nothing(kStart);
  EXPECT_EQ(outcome_of("a.scope"), "systemd answered StartTransientUnit without a job");
}

TEST_F(ScopesOfSystemd, AJobThatFailsIsAnError) {
  std::size_t count = 0;
  for (const std::string result :
       {"failed", "timeout", "canceled", "dependency", "skipped", "DONE", ""}) {
    const std::string name = "a" + std::to_string(++count) + ".scope";
    const Outcome outcome = create(name);
    ASSERT_TRUE(await([&] { return manager_->starts().size() == count; }));
    ASSERT_TRUE(round_trip());
    EXPECT_FALSE(*outcome) << "the job has not ended";
    manager_->end_job(name, result);
    EXPECT_EQ(outcome_of(outcome), "systemd did not start " + name + ": job " + result);
  }
}

TEST_F(ScopesOfSystemd, SystemdThatDoesNotAnswerIsAnError) {
  scopes_ = std::make_unique<SystemdScopes>(loop_, *bus_, seconds(1));
  manager_->hold(kStart);
  const Outcome unanswered = create("a.scope");
  ASSERT_TRUE(await_starts(1));
  EXPECT_EQ(outcome_of(unanswered), "systemd did not start a.scope within 1 s");
  // The answer and the job come too late.
  manager_->resume(kStart);
  manager_->end_job("a.scope", "done");
  ASSERT_TRUE(round_trip());
  const Outcome endless = create("b.scope");
  EXPECT_EQ(outcome_of(endless), "systemd did not start b.scope within 1 s");
  EXPECT_EQ(manager_->starts().size(), 2U) << "the job of b.scope has begun";
  manager_->end_job("b.scope", "done");
  ASSERT_TRUE(round_trip());
}

TEST_F(ScopesOfSystemd, ALostConnectionEndsWhatIsPending) {
  const Outcome one = create("one.scope");
  const Outcome two = create("two.scope");
  ASSERT_TRUE(await_starts(2));
  ASSERT_TRUE(round_trip());
  manager_->hold(kStart);
  const Outcome unanswered = create("three.scope");
  ASSERT_TRUE(await_starts(3));
  EXPECT_FALSE(*one || *two || *unanswered);
  manager_->leave();
  EXPECT_EQ(outcome_of(one), "lost the connection to systemd while it was starting one.scope");
  EXPECT_EQ(outcome_of(two), "lost the connection to systemd while it was starting two.scope");
  EXPECT_THAT(outcome_of(unanswered), HasSubstr("systemd: "));
  EXPECT_FALSE(bus_->is_connected());
  const Outcome at_once = create("four.scope");
  EXPECT_EQ(at_once->value_or(""), "not connected to systemd");
  manager_->resume(kStart);
  manager_->come_back();
  start_all();
  ASSERT_TRUE(await([&] { return bus_->is_connected(); }));
  EXPECT_EQ(outcome_of("five.scope"), "/trireme.slice/five.scope") << "the new connection is used";
}

TEST_F(ScopesOfSystemd, NobodyIsCalledAfterTheEnd) {
  manager_->hold(kStart);
  const Outcome unanswered = create("a.scope");
  ASSERT_TRUE(await_starts(1));
  scopes_.reset();
  manager_->resume(kStart);
  manager_->end_job("a.scope", "done");
  ASSERT_TRUE(round_trip());
  EXPECT_FALSE(*unanswered);
}

TEST_F(ScopesOfSystemd, EachHasItsOwnJob) {
  const Outcome one = create("one.scope");
  const Outcome two = create("two.scope");
  const Outcome three = create("three.scope");
  ASSERT_TRUE(await([&] { return manager_->starts().size() == 3; }));
  manager_->signal("JobRemoved", "uoss", 99U, "/org/freedesktop/systemd1/job/99", "one.scope",
                   "failed");  // another job of a unit of that name
  manager_->end_job("three.scope", "done");
  manager_->end_job("one.scope", "timeout");
  EXPECT_EQ(outcome_of(three), "/trireme.slice/three.scope");
  EXPECT_EQ(outcome_of(one), "systemd did not start one.scope: job timeout");
  EXPECT_FALSE(*two);
  manager_->end_job("two.scope", "done");
  EXPECT_EQ(outcome_of(two), "/trireme.slice/two.scope");
}

TEST_F(ScopesOfSystemd, ThePropertiesAreThoseOfTheRequestBehindOurs) {
  start_all();
  EXPECT_EQ(outcome_of("a.scope", {{"Slice", "trireme-a.slice"},
                                   {"CollectMode", "inactive"},
                                   {"TasksMax", "100"},
                                   {"IPAddressAllow", "localhost"}}),
            "/trireme.slice/trireme-a.slice/a.scope");
  const auto starts = manager_->starts();
  ASSERT_EQ(starts.size(), 1U);
  EXPECT_EQ(starts[0].unit, "a.scope");
  EXPECT_EQ(starts[0].mode, "fail") << "a unit of that name must not be replaced";
  EXPECT_THAT(
      starts[0].properties,
      ElementsAre(Pair("CollectMode", "s inactive-or-failed"), Pair("Slice", "s trireme-a.slice"),
                  Pair("PIDs", "au 4711"), Pair("CollectMode", "s inactive"),
                  Pair("TasksMax", "t 100"), Pair("IPAddressAllow", "a(iayu)")));
}

TEST_F(ScopesOfSystemd, ThePathIsThatOfTheSlicesAndEscaped) {
  start_all();
  EXPECT_STREQ(scopes_->name(), "systemd");
  EXPECT_EQ(scopes_->slice(), "/trireme.slice");
  EXPECT_EQ(outcome_of("a.scope", {{"Slice", "trireme-a-bc.slice"}}),
            "/trireme.slice/trireme-a.slice/trireme-a-bc.slice/a.scope");
  for (const char* name : {"memory.scope", "_a.scope", ".a.scope", "cgroup.procs.scope",
                           "bpf-restrict-network-interfaces.scope"}) {
    EXPECT_EQ(outcome_of(name), "/trireme.slice/_" + std::string(name));
  }
  for (const char* name : {"memory2.scope", "a.memory.scope", "cgroup-a.scope"}) {
    EXPECT_EQ(outcome_of(name), "/trireme.slice/" + std::string(name));
  }
}

TEST_F(ScopesOfSystemd, SlicesAreBelowTheRootOfSystemd) {
  manager_->set_cgroup_root("/machine.slice/vm");
  scopes_.reset();
  connect();
  scopes_ = std::make_unique<SystemdScopes>(loop_, *bus_);
  start_all();
  EXPECT_EQ(scopes_->slice(), "/machine.slice/vm/trireme.slice");
  EXPECT_EQ(outcome_of("a.scope"), "/machine.slice/vm/trireme.slice/a.scope");
}

/// A launcher whose scopes systemd creates. The fake moves the caller as systemd would.
class LaunchThroughSystemd : public workload::test::CgroupTest {
 protected:
  void SetUp() override {
    CgroupTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    caller_ = std::make_unique<workload::test::Process>(false);
    manager_ = std::make_unique<FakeManager>();
    auto bus = Bus::connect(loop_, manager_->socket());
    ASSERT_TRUE(bus) << bus.error().text();
    bus_ = std::move(*bus);
    registry_ = std::make_unique<workload::Registry>(*tree_, kernel_);
    scopes_ = std::make_unique<SystemdScopes>(loop_, *bus_);
    launcher_ = std::make_unique<Launcher>(
        *registry_, *scopes_, [](const std::string& /*name*/) { return false; },
        LaunchShares({.is_held = [](std::uint64_t /*id*/) { return true; },
                      .is_scarce = [] { return false; }}));
    launcher_->configure(std::make_shared<config::Host>());
  }
  void TearDown() override {
    caller_.reset();
    launcher_.reset();
    scopes_.reset();
    registry_.reset();
    bus_.reset();
    manager_.reset();
    CgroupTest::TearDown();
  }
  /// Systemd creates the scope's cgroup and moves the caller there. `result`: how the job ends at
  /// once; empty if it goes on.
  void obey(const std::string& result) {
    manager_->when_started([this, result](const FakeManager::Start& start) {
      const std::string path = "/trireme.slice/" + start.unit;
      EXPECT_TRUE(tree_->create(path));
      EXPECT_TRUE(tree_->place(path, start.pid));
      return result;
    });
  }
  void begin() {
    LaunchRequest request;
    request.pid = caller_->pid();
    request.labels = workload::test::labels({{"app", "web"}});
    request.unit = "shop";
    launcher_->launch(std::move(request), [this](const Result<Launched>& launched) {
      EXPECT_FALSE(outcome_) << "`done` is called once";
      outcome_ = launched ? "launched in " + launched->cgroup_path : launched.error().message;
    });
  }
  std::string outcome() {
    EXPECT_TRUE(await([&] { return outcome_.has_value(); })) << "no outcome";
    return outcome_.value_or("");
  }
  [[nodiscard]] bool await_start() {
    return await([&] { return manager_->starts().size() == 1; });
  }

  workload::test::FakeEnforcement kernel_;
  std::unique_ptr<FakeManager> manager_;
  std::unique_ptr<Bus> bus_;
  std::unique_ptr<workload::Registry> registry_;
  std::unique_ptr<SystemdScopes> scopes_;
  std::unique_ptr<Launcher> launcher_;
  std::unique_ptr<workload::test::Process> caller_;
  std::optional<std::string> outcome_;
};

TEST_F(LaunchThroughSystemd, NobodyIsEnrolledWhereSystemdRefuses) {
  manager_->refuse(kStart, "Cannot set property MemoryMax, or unknown property.");
  begin();
  EXPECT_EQ(outcome(), "systemd: Cannot set property MemoryMax, or unknown property");
  EXPECT_EQ(kernel_.enrolments, 0U);
}

TEST_F(LaunchThroughSystemd, NobodyIsEnrolledByAJobThatFails) {
  obey("failed");  // although the process may already have been moved
  begin();
  EXPECT_EQ(outcome(), "systemd did not start shop.scope: job failed");
  EXPECT_EQ(kernel_.enrolments, 0U);
}

TEST_F(LaunchThroughSystemd, ACallerThatSystemdHasNotMovedIsNotEnrolled) {
  manager_->when_started([this](const FakeManager::Start& start) {
    EXPECT_TRUE(tree_->create("/trireme.slice/" + start.unit));
    return "done";
  });
  begin();
  EXPECT_EQ(outcome(), "shop.scope was created, but the caller is not in it");
  EXPECT_EQ(kernel_.enrolments, 0U);
}

TEST_F(LaunchThroughSystemd, ACallerThatHasGoneMeanwhileIsNotEnrolled) {
  obey("");
  begin();
  ASSERT_TRUE(await_start());
  caller_.reset();
  manager_->end_job("shop.scope", "done");
  EXPECT_EQ(outcome(), "shop.scope was created, but the caller is not in it");
  EXPECT_EQ(kernel_.enrolments, 0U);
}

TEST_F(LaunchThroughSystemd, ACallerThatHasLeftTheNetworkMeanwhileIsNotEnrolled) {
  obey("");
  begin();
  ASSERT_TRUE(await_start());
  caller_->leave_network();
  manager_->end_job("shop.scope", "done");
  EXPECT_THAT(outcome(), HasSubstr("in another network namespace"));
  EXPECT_EQ(kernel_.enrolments, 0U);
}

TEST_F(LaunchThroughSystemd, WhatTheKernelRefusesIsNotLaunched) {
  obey("done");
  kernel_.refuse_enrolment = true;
  begin();
  EXPECT_EQ(outcome(), "no memory for elements");
  const workload::Workload* workload = registry_->find_cgroup("/trireme.slice/shop.scope");
  ASSERT_NE(workload, nullptr);
  EXPECT_EQ(workload->state, workload::State::quarantined);
}

TEST_F(LaunchThroughSystemd, ALostConnectionIsAnError) {
  obey("");
  begin();
  ASSERT_TRUE(await_start());
  manager_->hang_up();
  EXPECT_EQ(outcome(), "lost the connection to systemd while it was starting shop.scope");
  EXPECT_EQ(kernel_.enrolments, 0U);
}

TEST_F(LaunchThroughSystemd, NobodyIsAnsweredAfterTheLaunchersEnd) {
  obey("");
  begin();
  ASSERT_TRUE(await_start());
  launcher_.reset();
  manager_->end_job("shop.scope", "done");
  ASSERT_TRUE(test::round_trip_on(loop_, *bus_));
  EXPECT_FALSE(outcome_);
  EXPECT_EQ(kernel_.enrolments, 0U);
}

TEST_F(LaunchThroughSystemd, TheCallerIsEnrolledWhenTheJobIsDone) {
  obey("");
  begin();
  ASSERT_TRUE(await_start());
  ASSERT_TRUE(test::round_trip_on(loop_, *bus_));
  EXPECT_FALSE(outcome_) << "the job has not ended";
  EXPECT_EQ(kernel_.enrolments, 0U);
  manager_->end_job("shop.scope", "done");
  EXPECT_EQ(outcome(), "launched in /trireme.slice/shop.scope");
  const auto enrolled = kernel_.cgroups.find(id("/trireme.slice/shop.scope"));
  ASSERT_NE(enrolled, kernel_.cgroups.end());
  EXPECT_EQ(enrolled->second.labels, workload::test::labels({{"app", "web"}}));
}

}  // namespace
}  // namespace trireme::systemd
