// SPDX-License-Identifier: Apache-2.0
// What a query of systemd finds out about the units of [[unit]] entries.
#include <gmock/gmock.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "systemd_fake.hpp"
#include "trireme/systemd/unit_facts.hpp"

namespace trireme::systemd {
namespace {

using test::BusTest;
using test::FakeManager;
using test::Pairs;
using test::Texts;
using test::with_own_directories;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Key;
using ::testing::Not;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

std::vector<std::string> texts(const std::vector<config::Diagnostic>& diagnostics) {
  std::vector<std::string> lines;
  for (const config::Diagnostic& diagnostic : diagnostics) {
    lines.push_back(diagnostic.text());
  }
  return lines;
}

/// Entries of identity.toml with these names, at lines 1, 2, ..., each with another label.
std::shared_ptr<const config::Host> entries_named(const std::vector<std::string>& names) {
  auto host = std::make_shared<config::Host>();
  for (const std::string& name : names) {
    config::UnitRule rule;
    rule.name = name;
    EXPECT_TRUE(rule.labels.set("app", "a" + std::to_string(host->units.size())));
    rule.where = {.file = "identity.toml",
                  .line = static_cast<std::uint32_t>(host->units.size() + 1),
                  .column = 1};
    host->units.push_back(std::move(rule));
  }
  return host;
}

class UnitLook : public BusTest {
 protected:
  void SetUp() override {
    BusTest::SetUp();
    if (!IsSkipped()) {
      connect();
    }
  }
  /// Begins a query. Its result is in result_ when it is complete.
  void begin(const std::vector<std::string>& names, UnitView last = {}) {
    result_.reset();
    look_at_units(*bus_, entries_named(names), {}, std::move(last), [this](Result<UnitView> view) {
      EXPECT_FALSE(result_) << "`done` is called once";
      result_ = std::move(view);
    });
  }
  Result<UnitView> look(const std::vector<std::string>& names, UnitView last = {}) {
    begin(names, std::move(last));
    EXPECT_TRUE(await([&] { return result_.has_value(); })) << "no result";
    return result_ ? *result_ : fail("no result");
  }
  UnitView view(const std::vector<std::string>& names, UnitView last = {}) {
    auto found = look(names, std::move(last));
    EXPECT_TRUE(found) << found.error().text();
    return found ? *found : UnitView();
  }
  std::string error_of(const std::vector<std::string>& names) {
    const auto found = look(names);
    return found ? "no error" : found.error().message;
  }
  UnitFacts facts_about(const std::string& unit) {
    std::optional<UnitFacts> facts;
    ask_unit(*bus_, unit, [&](Result<UnitFacts> found) {
      EXPECT_TRUE(found) << found.error().text();
      facts = found.value_or(UnitFacts{});
    });
    EXPECT_TRUE(await([&] { return facts.has_value(); }));
    return facts.value_or(UnitFacts{});
  }

  std::optional<Result<UnitView>> result_;
};

TEST_F(UnitLook, AListThatSystemdDoesNotGiveIsAnError) {
  manager_->add("a.service");
  for (const char* list : {"ListUnitFiles", "ListUnits"}) {
    manager_->refuse(list, "no memory");
    EXPECT_EQ(error_of({"a.service"}), "systemd: no memory") << list;
    manager_->answer_nothing(list);
    EXPECT_THAT(error_of({"a.service"}), HasSubstr("cannot parse systemd's list of unit")) << list;
    manager_->resume(list);
  }
  EXPECT_EQ(manager_->count("GetAll"), 0U);
}

TEST_F(UnitLook, ItEndsWithTheConnection) {
  for (const char* call : {"ListUnitFiles", "ListUnits"}) {
    manager_->hang_up_on(call);
    EXPECT_THAT(error_of({"a.service"}), HasSubstr("systemd")) << call;
    manager_->resume(call);
    ASSERT_TRUE(await([&] { return bus_->is_connected(); }));
  }
  manager_->hang_up_on("GetAll");
  const UnitView found = view({"a.service", "b.service"});
  EXPECT_THAT(found.unanswered, UnorderedElementsAre(Key("a.service"), Key("b.service")));
  EXPECT_TRUE(found.has_unknown);
  manager_->leave();
  ASSERT_TRUE(await([&] { return !bus_->is_connected(); }));
  EXPECT_EQ(error_of({"a.service"}), "not connected to systemd");
}

TEST_F(UnitLook, WithoutAnAnswerTheLastFactsStay) {
  manager_->add("mariadb.service",
                {{"Names", Texts{"mariadb.service", "mysql.service"}}, {"RootDirectory", "/srv"}});
  manager_->add_loaded("web.socket");
  manager_->add("web.socket", {{"Triggers", Texts{"mysql.service"}}});
  const UnitView first = view({"mysql.service"});
  EXPECT_THAT(first.unanswered, IsEmpty());
  EXPECT_FALSE(first.has_unknown);
  manager_->refuse("GetAll mysql.service", "no memory");
  manager_->refuse("GetAll web.socket", "no memory");
  const UnitView second = view({"mysql.service"}, first);
  EXPECT_THAT(second.unanswered, UnorderedElementsAre(Pair("mysql.service", "systemd: no memory"),
                                                      Pair("web.socket", "systemd: no memory")));
  EXPECT_FALSE(second.has_unknown) << "the last facts are known";
  EXPECT_EQ(second.facts.at("mysql.service").id, "mariadb.service");
  EXPECT_EQ(second.facts.at("mysql.service").root, "/srv");
  EXPECT_THAT(second.sockets.at("web.socket").triggers, ElementsAre("mysql.service"));
  EXPECT_THAT(names_of(second.aliases, "mariadb.service"),
              UnorderedElementsAre("mariadb.service", "mysql.service"));
  const UnitView third = view({"mysql.service"});
  EXPECT_TRUE(third.has_unknown) << "there are no last facts";
  EXPECT_THAT(texts(third.warnings), ElementsAre(HasSubstr("systemd did not describe this unit")));
  EXPECT_THAT(third.gates, ElementsAre("mysql.service")) << "it waits all the same";
}

TEST_F(UnitLook, APatternIsForFilesAndForLoadedUnits) {
  manager_->add_file("/usr/lib/systemd/system/db-main.service");
  manager_->add_file("/run/systemd/generator/db-generated.service");
  manager_->add_file("/usr/lib/systemd/system/db-main.timer");
  manager_->add_file("/usr/lib/systemd/system/web.service");
  manager_->add_loaded("db-transient.service");
  manager_->add_loaded("db-main.service");
  manager_->add_loaded("db-wanted.service", "not-found");
  manager_->add_loaded("trireme.service");
  for (const char* unit : {"db-main.service", "db-generated.service", "db-transient.service"}) {
    manager_->add(unit);
  }
  const UnitView found = view({"db-m*.service", "db-[gtw]*.service"});
  EXPECT_THAT(found.gates, UnorderedElementsAre("db-generated.service", "db-main.service",
                                                "db-transient.service"));
  EXPECT_THAT(found.facts, UnorderedElementsAre(Key("db-generated.service"), Key("db-main.service"),
                                                Key("db-transient.service")));
  EXPECT_THAT(found.warnings, IsEmpty());
  EXPECT_THAT(view({"*.service"}).gates, Not(::testing::Contains("trireme.service")))
      << "its start would wait for itself";
}

TEST_F(UnitLook, AnEntryThatMatchesNothingIsReported) {
  manager_->add_file("/usr/lib/systemd/system/masked.service");
  manager_->add("masked.service", {{"LoadState", "masked"}});
  manager_->add("fine.service");
  manager_->add_loaded("fine.service");
  const UnitView found = view({"none.service", "masked.service", "x*.service", "fine.service"});
  EXPECT_THAT(
      texts(found.warnings),
      ElementsAre("identity.toml:1:1: warning: [[unit]] 'none.service': no such unit on this host",
                  "identity.toml:2:1: warning: [[unit]] 'masked.service': systemd cannot start "
                  "this unit: it is masked",
                  "identity.toml:3:1: warning: [[unit]] 'x*.service': no unit on this host "
                  "matches"));
}

TEST_F(UnitLook, AnEntryThatAnEarlierOneHidesIsReported) {
  manager_->add("mariadb.service", {{"Names", Texts{"mariadb.service", "mysql.service"}}});
  const UnitView found = view({"mysql.service", "mariadb.service"});
  EXPECT_THAT(texts(found.warnings),
              ElementsAre(AllOf(HasSubstr("[[unit]] 'mariadb.service'"),
                                HasSubstr("this unit is mariadb.service, which gets its labels "
                                          "from 'mysql.service' (identity.toml:1:1)"))));
}

TEST_F(UnitLook, ATemplateStandsForItsInstances) {
  manager_->add_file("/usr/lib/systemd/system/db@.service");
  manager_->add_loaded("db@1.service");
  manager_->add_loaded("db@2.service");
  manager_->add("db@trireme.service",
                {{"Names", Texts{"db@trireme.service", "sql@trireme.service"}}});
  const UnitView all = view({"db@*.service"});
  EXPECT_THAT(all.gates, ElementsAre("db@.service")) << "its drop-in is that of each instance";
  EXPECT_EQ(manager_->count("GetAll db@trireme.service"), 1U)
      << "systemd cannot be asked about a template";
  EXPECT_THAT(all.warnings, IsEmpty());
  EXPECT_THAT(names_of(all.aliases, "db@7.service"),
              UnorderedElementsAre("db@7.service", "sql@7.service"));
  manager_->add("db@1.service");
  const UnitView some = view({"db@[13].service"});
  EXPECT_THAT(some.gates, ElementsAre("db@1.service"));
  EXPECT_THAT(texts(some.warnings),
              ElementsAre(HasSubstr("matches only some instances of db@.service: a new instance "
                                    "starts without waiting")));
  EXPECT_THAT(view({"db@9.service"}).gates, ElementsAre("db@9.service"))
      << "although it is not loaded";
}

TEST_F(UnitLook, UnitsThatAreMadeLaterHaveThePrefixesDropIn) {
  manager_->add_loaded("batch-1.service");
  manager_->add("batch-1.service");
  UnitView found = view({"batch-*.service"});
  EXPECT_THAT(found.gates, UnorderedElementsAre("batch-.service", "batch-1.service"));
  EXPECT_TRUE(found.facts.at("batch-.service").default_dependencies);
  manager_->add("batch-1.service", {{"DefaultDependencies", false}});
  found = view({"batch-*.service"});
  EXPECT_FALSE(found.facts.at("batch-.service").default_dependencies)
      << "the common drop-in would survive a reboot";
}

TEST_F(UnitLook, AUnitWithItsOwnRootIsReported) {
  manager_->add("a.service", {{"RootDirectory", "/srv/a"}, {"RootImage", ""}});
  manager_->add_file("/etc/systemd/system/b@.service");
  manager_->add("b@trireme.service", {{"RootDirectory", ""}, {"RootImage", "/srv/b.raw"}});
  manager_->add("c.service", {{"RootDirectory", ""}, {"RootImage", ""}});
  const UnitView found = view({"a.service", "b@*.service", "c.service"});
  EXPECT_THAT(texts(found.warnings),
              ElementsAre(HasSubstr("a.service has its own root in /srv/a and cannot wait"),
                          HasSubstr("b@.service has its own root in /srv/b.raw and cannot wait")));
}

TEST_F(UnitLook, EveryLoadedSocketIsDescribed) {
  manager_->add_loaded("web.socket");
  manager_->add_loaded("gone.socket", "not-found");
  manager_->add_file("/usr/lib/systemd/system/idle.socket");
  manager_->add("web.socket", {{"Accept", true},
                               {"ActiveState", "active"},
                               {"Triggers", Texts{"web.service", "other.service"}},
                               {"Listen", Pairs{{"Stream", "[::]:80"}}}});
  const UnitView found = view({"x*.service"});
  ASSERT_THAT(found.sockets, ElementsAre(Key("web.socket")));
  const UnitFacts& socket = found.sockets.at("web.socket");
  EXPECT_TRUE(socket.accepts);
  EXPECT_EQ(socket.active_state, "active");
  EXPECT_THAT(socket.triggers, ElementsAre("web.service", "other.service"));
  EXPECT_TRUE(socket.has_ip_listener);
  EXPECT_THAT(found.gates, IsEmpty());
}

TEST_F(UnitLook, OnlyInternetAddressesAreListenersThatMatter) {
  const std::pair<Pairs, bool> cases[] = {
      {{}, false},
      {{{"Stream", "/run/x:1.sock"}}, false},
      {{{"Stream", "@abstract:1"}}, false},
      {{{"Stream", "vsock:2:80"}}, false},
      {{{"FIFO", "/run/fifo"}}, false},
      {{{"Netlink", "route 1:2"}}, false},
      {{{"Stream", "0.0.0.0:80"}}, true},
      {{{"Datagram", "[::1]:53"}}, true},
      {{{"SequentialPacket", "[::]:53"}}, true},
      {{{"Stream", "0.0.0.0:80"}, {"Stream", "/run/x.sock"}}, true},
      {{{"Stream", "/run/x.sock"}, {"Stream", "0.0.0.0:80"}}, true},
  };
  for (const auto& [listeners, expected] : cases) {
    manager_->add("a.socket", {{"Listen", listeners}});
    EXPECT_EQ(facts_about("a.socket").has_ip_listener, expected)
        << (listeners.empty() ? "" : listeners.front().second);
  }
}

TEST_F(UnitLook, PropertiesOfUnexpectedTypesAreNotRead) {
  manager_->add("a.service", {{"Names", "a.service"},
                              {"LoadState", true},
                              {"DefaultDependencies", "no"},
                              {"Triggers", 1U},
                              {"PrivateNetwork", "yes"},
                              {"FileDescriptorStoreMax", "8"},
                              {"NFileDescriptorStore", Texts{"8"}},
                              {"Listen", Texts{"0.0.0.0:80"}},
                              {"NetworkNamespacePath", "/run/netns/a"},
                              {"ZzzUnknown", true}});
  const UnitFacts facts = facts_about("a.service");
  EXPECT_EQ(facts.id, "a.service");
  EXPECT_THAT(facts.names, IsEmpty());
  EXPECT_EQ(facts.load_state, "");
  EXPECT_TRUE(facts.default_dependencies);
  EXPECT_THAT(facts.triggers, IsEmpty());
  EXPECT_FALSE(facts.private_network);
  EXPECT_EQ(facts.most_descriptors, 0U);
  EXPECT_EQ(facts.stored_descriptors, 0U);
  EXPECT_FALSE(facts.has_ip_listener);
  EXPECT_EQ(facts.network_namespace, "/run/netns/a") << "what follows is read";
  manager_->answer_nothing("GetAll a.service");
  EXPECT_EQ(facts_about("a.service").id, "") << "no dictionary at all";
}

TEST_F(UnitLook, APropertyIsReadByItsNameInSystemd) {
  manager_->add("a.service", {{"DefaultDependencies", false},
                              {"TriggeredBy", Texts{"a.socket", "a.timer"}},
                              {"PrivateNetwork", true},
                              {"FileDescriptorStoreMax", 8U},
                              {"NFileDescriptorStore", 3U}});
  const UnitFacts facts = facts_about("a.service");
  EXPECT_EQ(facts.load_state, "loaded");
  EXPECT_FALSE(facts.default_dependencies);
  EXPECT_THAT(facts.triggered_by, ElementsAre("a.socket", "a.timer"));
  EXPECT_TRUE(facts.private_network);
  EXPECT_EQ(facts.most_descriptors, 8U);
  EXPECT_EQ(facts.stored_descriptors, 3U);
}

TEST_F(UnitLook, AViewForOneReportWaitsOnlyForSoLong) {
  using std::chrono::milliseconds;
  using std::chrono::seconds;
  ASSERT_TRUE(with_own_directories([] {
    const auto host = entries_named({"none.service"});
    EXPECT_THAT(view_units(host, seconds(10)).warnings, IsEmpty()) << "there is no systemd";
    FakeManager manager("/run/systemd/private");
    EXPECT_THAT(view_units(entries_named({}), seconds(10)).warnings, IsEmpty());
    EXPECT_EQ(manager.count("Get"), 0U) << "without entries there is nothing to query";
    manager.hold("ListUnits");
    EXPECT_THAT(view_units(host, milliseconds(100)).warnings, IsEmpty());
    EXPECT_EQ(manager.count("ListUnits"), 1U);
    manager.refuse("ListUnits", "no memory");
    EXPECT_THAT(view_units(host, seconds(10)).warnings, IsEmpty());
    manager.resume("ListUnits");
    EXPECT_THAT(texts(view_units(host, seconds(10)).warnings),
                ElementsAre(HasSubstr("no such unit")));
  }));
}

}  // namespace
}  // namespace trireme::systemd
