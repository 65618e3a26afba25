// SPDX-License-Identifier: Apache-2.0
// Units as workloads: which ones are enforced and released, their drop-ins, and when systemd is
// queried; also while systemd answers only some queries, reloads, or sends many signals.
#include <gmock/gmock.h>

#include "systemd_support.hpp"
#include "trireme/base/file.hpp"

namespace trireme::systemd {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::FakeManager;
using test::Pairs;
using test::Texts;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using workload::State;
using workload::test::labels;

class UnitsTest : public test::WithSystemd {
 protected:
  /// Starts mariadb.service, which is a workload because an entry names its alias mysql.service.
  /// Returns its cgroup.
  std::string enforce_by_alias() {
    systemd_->add("mariadb.service", {{"Names", Texts{"mariadb.service", "mysql.service"}}});
    look_after([&] { configure({"mysql.service"}); });
    std::string path = make("mariadb.service");
    EXPECT_TRUE(await([&] { return is_enforced(path); }));
    return path;
  }
};

TEST_F(UnitsTest, WithoutSystemdNothingIsEnrolled) {
  registry_ = std::make_unique<workload::Registry>(*tree_, kernel_);
  auto events = workload::CgroupEvents::create(loop_, *tree_, *registry_, kernel_, "/s.slice");
  ASSERT_TRUE(events);
  units_ = std::make_unique<UnitSource>(loop_, *tree_, *registry_, **events, nullptr, "/trirectl");
  EXPECT_EQ(units_->status(), "no [[unit]] in identity.toml");
  configure({"db.service"});
  EXPECT_EQ(units_->status(), "off: systemd is not running");
  EXPECT_FALSE(units_->cgroup_born(make("db.service")));
  EXPECT_EQ(gate("db.service", 1), "units cannot be enforced: systemd is not running");
  EXPECT_EQ(kernel_.enrolments, 0U);
  units_.reset();
}

TEST_F(UnitsTest, UnitsOfAnotherNetworkNamespaceAreNotEnrolled) {
  systemd_ = std::make_unique<FakeManager>();
  registry_ = std::make_unique<workload::Registry>(*tree_, kernel_);
  auto events = workload::CgroupEvents::create(loop_, *tree_, *registry_, kernel_, "/s.slice");
  ASSERT_TRUE(events);
  auto bus = Bus::connect(loop_, systemd_->socket());
  ASSERT_TRUE(bus) << bus.error().text();
  // The fixture is in a network namespace that it has made, and PID 1 is not.
  units_ = std::make_unique<UnitSource>(loop_, *tree_, *registry_, **events, bus->get(), "/t");
  configure({"db.service"});
  EXPECT_EQ(units_->status(), "off: systemd is in another network namespace");
  EXPECT_FALSE(units_->cgroup_born(make("db.service")));
  EXPECT_EQ(gate("db.service", 1),
            "units cannot be enforced: systemd is in another network namespace");
  systemd_->tell_reloading(false);
  EXPECT_TRUE(test::round_trip_on(loop_, **bus));
  EXPECT_EQ(looks(), 0U);
  units_.reset();
}

TEST_F(UnitsTest, WhatSystemdDoesNotAnswerAboutStaysAsItWas) {
  with_systemd([&] {
    const std::string path = enforce_by_alias();
    ASSERT_TRUE(is_enforced(path));
    systemd_->refuse("GetAll mysql.service", "no memory");
    look_after([&] { configure({"mysql.service", "other.service"}); });
    EXPECT_TRUE(is_enforced(path));
    EXPECT_THAT(units_->status(),
                HasSubstr("failed to describe mysql.service: systemd: no memory"));
    const std::string again = make("sub.slice/mariadb.service");
    EXPECT_TRUE(await([&] { return is_enforced(again); })) << "its aliases are known";
    // The query is repeated without a signal until systemd answers.
    EXPECT_TRUE(await_look(looks()));
    systemd_->resume("GetAll mysql.service");
    EXPECT_TRUE(await_status("failed to describe", false));
    const std::size_t before = looks();
    pass(seconds(2));
    EXPECT_EQ(looks(), before) << "there is nothing left to query";
  });
}

TEST_F(UnitsTest, WhatIsNotKnownReleasesNobody) {
  with_systemd([&] {
    const std::string path = enforce_by_alias();
    ASSERT_TRUE(is_enforced(path));
    // After a restart only the record is known.
    systemd_->refuse("GetAll mysql.service", "no memory");
    begin();
    look_after([&] { configure({"mysql.service"}); });
    EXPECT_TRUE(is_enforced(path));
    // The entry is removed while systemd answers no query.
    systemd_->refuse("ListUnitFiles", "no memory");
    look_after([&] { configure({"other.service"}); });
    EXPECT_TRUE(is_enforced(path)) << "other.service may be an alias of it";
    EXPECT_THAT(units_->status(), HasSubstr("no memory"));
    systemd_->resume("ListUnitFiles");
    systemd_->resume("GetAll mysql.service");
    EXPECT_TRUE(await([&] { return registry_->find_cgroup(path) == nullptr; }))
        << "no entry matches it, and all aliases are known now";
  });
}

TEST_F(UnitsTest, WhatWasAskedAboutEarlierEntriesReleasesNobody) {
  with_systemd([&] {
    const std::string path = enforce_by_alias();
    ASSERT_TRUE(is_enforced(path));
    // The entry is removed and comes back before systemd has answered about the first change.
    systemd_->hold("ListUnits");
    const std::size_t before = systemd_->count("ListUnits");
    configure({"other.service"});
    ASSERT_TRUE(await([&] { return systemd_->count("ListUnits") > before; }));
    configure({"mysql.service"});
    const std::size_t last = looks();
    systemd_->resume("ListUnits");
    ASSERT_TRUE(await_look(last));
    EXPECT_TRUE(is_enforced(path));
    EXPECT_THAT(kernel_.calls, Not(Contains(StartsWith("release"))));
    EXPECT_TRUE(exists(lasting("mysql.service")));
    EXPECT_FALSE(exists(lasting("other.service")));
  });
}

TEST_F(UnitsTest, AnEntryThatIsRemovedReleasesItsUnits) {
  with_systemd([&] {
    look_after([&] { configure({"a.service", "b.service"}); });
    const std::string first = make("a.service");
    const std::string second = make("b.service");
    ASSERT_TRUE(await([&] { return is_enforced(first) && is_enforced(second); }));
    EXPECT_EQ(units_->status(), "2 running, 2 patterns");
    look_after([&] { configure({"b.service"}); });
    EXPECT_EQ(registry_->find_cgroup(first), nullptr);
    EXPECT_TRUE(is_enforced(second));
    EXPECT_FALSE(exists(lasting("a.service")));
    EXPECT_TRUE(exists(lasting("b.service")));
    EXPECT_EQ(units_->status(), "1 running, 1 pattern");
    configure(std::vector<std::string>());
    EXPECT_EQ(registry_->find_cgroup(second), nullptr) << "nothing has to be queried for that";
    EXPECT_FALSE(exists(lasting("b.service")));
    EXPECT_EQ(units_->status(), "no [[unit]] in identity.toml");
  });
}

TEST_F(UnitsTest, AHeldUnitThatStartsWithoutItsEntryIsStillHeld) {
  with_systemd([&] {
    look_after([&] { configure({"a.service"}); });
    const std::string path = make("a.service");
    ASSERT_TRUE(await([&] { return is_enforced(path); }));
    ASSERT_TRUE(registry_->hold("a.service", "alice", ""));
    systemd_->add("a.service");
    look_after([&] { configure(std::vector<std::string>()); });
    EXPECT_TRUE(exists(lasting("a.service"))) << "its next start waits for the quarantine";
    ASSERT_TRUE(tree_->remove(path));
    ASSERT_TRUE(await([&] { return registry_->find_cgroup(path) == nullptr; }));
    make("a.service");
    make("b.service");
    ASSERT_TRUE(await([&] { return registry_->find_cgroup(path) != nullptr; }));
    EXPECT_EQ(registry_->find_cgroup(path)->state, State::quarantined);
    EXPECT_THAT(registry_->find_cgroup(path)->reason, StartsWith("ordered by alice"));
    EXPECT_EQ(registry_->size(), 1U) << "no other unit is a workload";
    ASSERT_TRUE(registry_->end_hold("a.service", "alice"));
    configure(std::vector<std::string>());
    EXPECT_EQ(registry_->find_cgroup(path), nullptr);
    EXPECT_FALSE(exists(lasting("a.service")));
  });
}

TEST_F(UnitsTest, AHeldInstanceKeepsItsGateWithoutThoseOfItsTemplate) {
  with_systemd([&] {
    systemd_->add_file("/usr/lib/systemd/system/a@.service");
    look_after([&] { configure({"a@*.service"}); });
    EXPECT_TRUE(exists(lasting("a@.service")));
    const std::string path = make("a@1.service");
    ASSERT_TRUE(await([&] { return is_enforced(path); }));
    ASSERT_TRUE(registry_->hold("a@1.service", "alice", ""));
    systemd_->add("a@1.service", {{"DefaultDependencies", false}});
    look_after([&] { configure(std::vector<std::string>()); });
    EXPECT_FALSE(exists(lasting("a@.service")));
    EXPECT_TRUE(exists(runtime("a@1.service"))) << "it starts before trireme at boot";
    EXPECT_EQ(units_->gated(), std::set<std::string>{"a@1.service"});
  });
}

TEST_F(UnitsTest, NewsLeadToALookAtOnceAndThenNowAndThen) {
  with_systemd([&] {
    look_after([&] { configure({"db*.service"}); });
    pass(milliseconds(1100));
    look_after([&] { systemd_->tell_new("db1.service"); });
    const std::size_t before = looks();
    const auto began = std::chrono::steady_clock::now();
    unsigned sent = 0;
    EXPECT_TRUE(await([&] {
      systemd_->tell_new("db" + std::to_string(++sent) + ".service");
      return std::chrono::steady_clock::now() - began > milliseconds(3500);
    }));
    EXPECT_GT(sent, 50U);
    EXPECT_GE(looks() - before, 1U);
    EXPECT_LE(looks() - before, 4U);
    const std::size_t last = looks();
    systemd_->tell_new("db-last.service");
    EXPECT_TRUE(await_look(last));
    // A new unit is matched by its name, without waiting for a query.
    systemd_->tell_new("db-new.service");
    const std::string path = make("db-new.service");
    EXPECT_TRUE(await([&] { return is_enforced(path); }));
  });
}

TEST_F(UnitsTest, AUnitThatAppearsLaterGetsADropIn) {
  with_systemd([&] {
    look_after([&] { configure({"db*.service"}); });
    EXPECT_FALSE(exists(lasting("db1.service")));
    systemd_->add("db1.service");
    systemd_->add_loaded("db1.service");
    const std::size_t reloads = systemd_->count("Reload");
    look_after([&] { systemd_->tell_new("db1.service"); });
    EXPECT_TRUE(exists(lasting("db1.service")));
    EXPECT_TRUE(await_count("Reload", reloads + 1)) << "systemd must read it";
    // From now on it is no news, and neither are other units.
    const std::size_t before = looks();
    systemd_->tell_new("db1.service");
    systemd_->tell_new("web.service");
    systemd_->tell_new("web.socket");
    systemd_->tell_new("db1.timer");
    pass(milliseconds(1500));
    EXPECT_EQ(looks(), before);
    // A socket that may start one of them.
    systemd_->add("db1.socket", {{"Triggers", Texts{"db1.service"}}});
    systemd_->add_loaded("db1.socket");
    look_after([&] { systemd_->tell_new("db1.socket"); });
    EXPECT_EQ(systemd_->count("GetAll db1.socket"), 1U);
  });
}

TEST_F(UnitsTest, AReloadOfSystemdLeadsToALook) {
  with_systemd([&] {
    look_after([&] { configure({"db*.service"}); });
    const std::size_t before = looks();
    systemd_->tell_reloading(true);
    ASSERT_TRUE(round_trip());
    EXPECT_EQ(looks(), before) << "the units are not read yet";
    systemd_->add("db1.service");
    systemd_->add_file("/etc/systemd/system/db1.service");
    look_after([&] { systemd_->tell_reloading(false); });
    EXPECT_TRUE(exists(lasting("db1.service")));
  });
}

TEST_F(UnitsTest, AReloadDuringALookLeadsToOneMore) {
  with_systemd([&] {
    systemd_->hold("ListUnits");
    configure({"db*.service"});
    ASSERT_TRUE(await([&] { return systemd_->count("ListUnits") == 1; }));
    for (int i = 0; i < 3; i++) {
      systemd_->tell_reloading(false);
    }
    ASSERT_TRUE(round_trip());
    EXPECT_EQ(looks(), 1U) << "only one at a time";
    look_after([&] { systemd_->resume("ListUnits"); });
    EXPECT_EQ(looks(), 2U);
  });
}

TEST_F(UnitsTest, ALostConnectionLeadsToALook) {
  with_systemd([&] {
    look_after([&] { configure({"db*.service"}); });
    systemd_->add("db1.service");
    systemd_->add_file("/etc/systemd/system/db1.service");
    systemd_->leave();
    ASSERT_TRUE(await([&] { return !bus_->is_connected(); }));
    const std::string path = make("db1.service");
    EXPECT_TRUE(await([&] { return is_enforced(path); })) << "it is matched by its name";
    look_after([&] { systemd_->come_back(); });
    EXPECT_TRUE(exists(lasting("db1.service")));
  });
}

TEST_F(UnitsTest, ADaemonReloadThatFailsIsRepeated) {
  with_systemd([&] {
    systemd_->refuse("Reload", "not enough space");
    look_after([&] { configure({"db.service"}); });
    EXPECT_TRUE(await_status("drop-ins: daemon-reload: systemd: not enough space"));
    EXPECT_TRUE(await_count("Reload", 1));
    systemd_->resume("Reload");
    look_after([&] { systemd_->tell_reloading(false); });
    EXPECT_TRUE(await_count("Reload", 2));
    EXPECT_EQ(units_->status(), "0 running, 1 pattern");
    look_after([&] { systemd_->tell_reloading(false); });
    EXPECT_TRUE(await_count("Reload", 2)) << "systemd has read everything";
  });
}

TEST_F(UnitsTest, WhetherSystemdHasReadTheDropInsOfAnEarlierDaemonIsNotKnown) {
  with_systemd([&] {
    look_after([&] { configure({"db.service"}); });
    EXPECT_TRUE(await_count("Reload", 1));
    begin();
    look_after([&] { configure({"db.service"}); });
    EXPECT_TRUE(await_count("Reload", 2));
  });
}

TEST_F(UnitsTest, DropInsThatCannotBeWrittenAreReported) {
  with_systemd([&] {
    ASSERT_TRUE(write_file("/etc/systemd/system/a.service.d", "a file is in the way"));
    look_after([&] { configure({"a.service", "b.service"}); });
    EXPECT_THAT(units_->status(), HasSubstr("drop-ins: cannot create the directory"));
    EXPECT_TRUE(await_count("Reload", 0));
    std::filesystem::remove("/etc/systemd/system/a.service.d");
    look_after([&] { systemd_->tell_reloading(false); });
    EXPECT_TRUE(exists(lasting("a.service")));
    EXPECT_TRUE(await_count("Reload", 1));
    EXPECT_EQ(units_->status(), "0 running, 2 patterns");
  });
}

TEST_F(UnitsTest, DropInsInAReadOnlyEtcAreLostByAReboot) {
  with_systemd([&] {
    ASSERT_EQ(::mount("none", "/etc", nullptr, MS_REMOUNT | MS_RDONLY, nullptr), 0);
    look_after([&] { configure({"a.service"}); });
    EXPECT_TRUE(exists(runtime("a.service")));
    EXPECT_THAT(units_->status(), HasSubstr("read-only; a reboot removes them"));
  });
}

TEST_F(UnitsTest, ADropInIsAsTheUnitIs) {
  with_systemd([&] {
    systemd_->add("early.service", {{"DefaultDependencies", false}});
    systemd_->add("rooted.service", {{"RootDirectory", "/srv"}});
    systemd_->add("late.service");
    look_after([&] { configure({"early.service", "rooted.service", "late.service"}); });
    EXPECT_TRUE(exists(runtime("early.service")));
    EXPECT_FALSE(exists(lasting("early.service")));
    EXPECT_THAT(*read_file(lasting("rooted.service")), HasSubstr("AssertPathExists="));
    EXPECT_THAT(*read_file(lasting("late.service")), HasSubstr("ExecCondition="));
    ASSERT_EQ(units_->warnings().size(), 1U);
    EXPECT_THAT(units_->warnings().front().text(), HasSubstr("rooted.service has its own root"));
  });
}

TEST_F(UnitsTest, UnitsThatNoEntryNamesAreLeftAlone) {
  with_systemd([&] {
    look_after([&] { configure({"db*.service"}); });
    for (const char* name : {"web.service", "dbx.scope", "user.slice/user@0.service/db.service",
                             "s.slice/db1.scope", "trireme.service"}) {
      make(name);
    }
    const std::string ours = make("system.slice/db1.service");
    EXPECT_TRUE(await([&] { return is_enforced(ours); }));
    settle();
    EXPECT_EQ(registry_->size(), 1U);
  });
}

TEST_F(UnitsTest, ASocketHasTheLabelsOfTheServiceThatItStarts) {
  with_systemd([&] {
    // By its triggers; by its name while it is not known; by its template if it accepts.
    systemd_->add("front.socket", {{"Triggers", Texts{"web.service"}},
                                   {"Listen", Pairs{{"Stream", "0.0.0.0:80"}}}});
    systemd_->add("door.socket", {{"Accept", true}, {"Triggers", Texts{}}});
    systemd_->add("web.socket", {{"Triggers", Texts{"other.service"}}, {"Accept", true}});
    for (const char* name : {"front.socket", "door.socket", "web.socket"}) {
      systemd_->add_loaded(name);
    }
    look_after([&] {
      configure_rules({{"web.service", labels({{"app", "web"}}), {}},
                       {"db.service", labels({{"app", "db"}}), {}},
                       {"door@*.service", labels({{"app", "door"}}), {}}});
    });
    const auto app_of = [this](const std::string& path) {
      const workload::Workload* workload = registry_->find_cgroup(path);
      const std::string* app = workload == nullptr ? nullptr : workload->own_labels.find("app");
      return app == nullptr ? std::string("none") : *app;
    };
    for (const char* name : {"front.socket", "door.socket", "web.socket", "db.socket",
                             "web.service", "stranger.socket"}) {
      make(name);
    }
    EXPECT_TRUE(await([&] { return app_of("/web.service") == "web"; }));
    settle();
    EXPECT_EQ(app_of("/front.socket"), "web");
    EXPECT_EQ(app_of("/door.socket"), "door");
    EXPECT_EQ(app_of("/db.socket"), "db") << "although systemd has not described it";
    EXPECT_EQ(app_of("/web.socket"), "none") << "it starts instances of web@.service";
    EXPECT_EQ(app_of("/stranger.socket"), "none");
    const workload::Workload* web = registry_->find_cgroup("/web.service");
    ASSERT_NE(web, nullptr);
    EXPECT_THAT(web->warnings, Contains(StartsWith("listens through front.socket")));
  });
}

TEST_F(UnitsTest, AUnitInAnotherNetworkIsEnforcedThere) {
  with_systemd([&] {
    look_after([&] { configure({"db.service"}); });
    const workload::test::Process away(true);
    // The cgroup is offered when the process is already in it.
    const std::string path = make("hidden/db.service");
    ASSERT_TRUE(tree_->place(path, away.pid()));
    EXPECT_EQ(registry_->size(), 0U) << "only slices lead to units";
    const std::string unit = make("db.service");
    ASSERT_TRUE(tree_->place(unit, away.pid()));
    EXPECT_TRUE(await([&] { return is_enforced(unit); }));
    EXPECT_EQ(kernel_.cgroups.at(id(unit)).network, away.network());
  });
}

TEST_F(UnitsTest, ASocketInANetworkThatCannotBeEnteredIsQuarantined) {
  with_systemd([&] {
    systemd_->add("db.socket", {{"Triggers", Texts{"db.service"}}, {"PrivateNetwork", true}});
    systemd_->add("web.socket",
                  {{"Triggers", Texts{"db.service"}}, {"NetworkNamespacePath", "/run/netns/none"}});
    systemd_->add_loaded("db.socket");
    systemd_->add_loaded("web.socket");
    look_after([&] { configure({"db.service"}); });
    make("db.socket");
    make("web.socket");
    EXPECT_TRUE(await([&] { return registry_->size() == 2; }));
    for (const char* path : {"/db.socket", "/web.socket"}) {
      const workload::Workload* socket = registry_->find_cgroup(path);
      ASSERT_NE(socket, nullptr) << path;
      EXPECT_EQ(socket->state, State::quarantined) << path;
    }
    EXPECT_THAT(registry_->find_cgroup("/db.socket")->reason, HasSubstr("cannot be entered"));
  });
}

}  // namespace
}  // namespace trireme::systemd
