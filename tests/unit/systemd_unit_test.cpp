// SPDX-License-Identifier: Apache-2.0
// Matching units by name and by path, names of scopes, and parsing of launch requests.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "../../src/systemd/unit_name.hpp"
#include "trireme/systemd/launcher.hpp"
#include "trireme/systemd/unit_rule.hpp"

namespace trireme::systemd {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(UnitName, IsThatOfACgroupDirectlyBelowSlices) {
  const std::pair<const char*, const char*> paths[] = {
      {"/system.slice/nginx.service", "nginx.service"},
      {"/nginx.service", "nginx.service"},
      {"/a.slice/a-b.slice/x.scope", "x.scope"},
      {"/system.slice/docker.socket", "docker.socket"},
      {"/system.slice/_memory.service", "memory.service"},  // systemd's escape
      {"/system.slice", ""},
      {"/system.slice/dev-sda.mount", ""},
      {"/system.slice/nginx.service/inside", ""},
      {"/system.slice/user@0.service/app.slice/forged.service", ""},  // inside a user's manager
      {"/docker/0123/system.slice/forged.service", ""},               // inside a container
      {"/system.slice/", ""},
      {"/", ""},
      {"", ""},
  };
  for (const auto& [path, unit] : paths) {
    EXPECT_EQ(unit_of_path(path), unit) << path;
  }
}

TEST(UnitName, ThePathOfAUnitIsTheStartThatNamesOne) {
  EXPECT_EQ(unit_path("/system.slice/nginx.service"), "/system.slice/nginx.service");
  EXPECT_EQ(unit_path("/system.slice/nginx.service/a/b.service"), "/system.slice/nginx.service");
  EXPECT_EQ(unit_path("/system.slice"), "");
  EXPECT_EQ(unit_path("/docker/0123/system.slice/forged.service"), "");
  EXPECT_EQ(unit_path(""), "");
}

TEST(UnitName, Templates) {
  EXPECT_EQ(template_of("postgresql@15-main.service"), "postgresql@.service");
  EXPECT_EQ(template_of("a@1.2.service"), "a@.service") << "dots in the instance";
  EXPECT_EQ(template_of("postgresql.service"), "");
  EXPECT_EQ(template_of("a.b@c"), "") << "the dot comes before";
  EXPECT_TRUE(is_template("postgresql@.service"));
  EXPECT_FALSE(is_template("postgresql@15.service"));
  EXPECT_FALSE(is_template("postgresql.service"));
}

TEST(UnitName, Patterns) {
  EXPECT_TRUE(is_plain("nginx.service"));
  for (const char* pattern : {"*.service", "ngin?.service", "[abc].service"}) {
    EXPECT_FALSE(is_plain(pattern)) << pattern;
  }
  EXPECT_TRUE(matches("nginx*.service", "nginx-2.service"));
  EXPECT_TRUE(matches("ngin[xy].service", "nginx.service"));
  EXPECT_TRUE(is_plain("srv-foo\\x2dbar.service")) << "systemd's own escape";
  EXPECT_TRUE(matches("srv-foo\\x2dbar.service", "srv-foo\\x2dbar.service"));
  EXPECT_TRUE(matches("srv-*\\x2dbar.service", "srv-foo\\x2dbar.service"));
  EXPECT_FALSE(matches("nginx", "nginx.service"));
  EXPECT_FALSE(matches("nginx.service", "Nginx.service"));
}

TEST(UnitName, ATemplateCarriesADropInWhereEveryInstanceMatches) {
  EXPECT_TRUE(matches_all_instances("a@*.service", "a@.service"));
  EXPECT_TRUE(matches_all_instances("*", "a@.service"));
  for (const char* pattern : {"a@1.service", "a@1*.service", "a@?.service", "a@???.service",
                              "a@[ab].service", "a@.service", "b@*.service"}) {
    EXPECT_FALSE(matches_all_instances(pattern, "a@.service")) << pattern;
  }
}

TEST(UnitRule, TheFirstEntryThatMatchesHolds) {
  config::Host identity;
  identity.units.resize(2);
  identity.units[0].name = "nginx.service";
  identity.units[1].name = "*";
  const auto first = match_unit(identity, {}, "/system.slice/nginx.service");
  ASSERT_TRUE(first);
  EXPECT_EQ(first->name, "nginx.service");
  EXPECT_EQ(first->rule, &identity.units[0]);
  EXPECT_EQ(match_unit(identity, {}, "/system.slice/other.service")->rule, &identity.units[1]);
  EXPECT_FALSE(match_unit(identity, {}, "/system.slice/nginx.service/inside"));
  EXPECT_FALSE(match_unit(identity, {}, "/docker/0123/nginx.service"));
  identity.units.pop_back();
  EXPECT_FALSE(match_unit(identity, {}, "/system.slice/other.service"));
}

UnitFacts facts_of(const char* id, std::set<std::string> names) {
  UnitFacts facts;
  facts.id = id;
  facts.names = std::move(names);
  facts.load_state = "loaded";
  return facts;
}

UnitView view_with(Aliases aliases) {
  UnitView view;
  view.aliases = std::move(aliases);
  return view;
}

TEST(UnitRule, ASocketGetsTheLabelsOfTheServiceThatItStarts) {
  config::Host identity;
  identity.units.resize(1);
  identity.units[0].name = "web.service";
  UnitView view;
  EXPECT_EQ(rule_of(identity, view, "web.socket"), &identity.units[0]) << "by its name";
  EXPECT_EQ(rule_of(identity, view, "other.socket"), nullptr);
  view.sockets["other.socket"].triggers = {"web.service"};
  EXPECT_EQ(rule_of(identity, view, "other.socket"), &identity.units[0]);
  EXPECT_TRUE(match_unit(identity, view, "/system.slice/other.socket"));
  EXPECT_EQ(rule_of(identity, view, "trireme.service"), nullptr);
}

TEST(UnitRule, AUnitIsMatchedByAnyOfItsNames) {
  config::Host identity;
  identity.units.resize(1);
  identity.units[0].name = "mysql.service";
  Aliases aliases;
  EXPECT_EQ(find_rule(identity, aliases, "mariadb.service"), nullptr);
  learn_aliases(aliases, facts_of("mariadb.service", {"mariadb.service", "mysql.service"}));
  EXPECT_EQ(find_rule(identity, aliases, "mariadb.service"), &identity.units[0]);
  EXPECT_EQ(find_rule(identity, aliases, "mysql.service"), &identity.units[0]);
  EXPECT_EQ(find_rule(identity, aliases, "other.service"), nullptr);
  EXPECT_TRUE(match_unit(identity, view_with(aliases), "/system.slice/mariadb.service"));
  learn_aliases(aliases, facts_of("mariadb.service", {"mariadb.service"}));
  EXPECT_EQ(find_rule(identity, aliases, "mariadb.service"), nullptr) << "the alias was removed";
}

TEST(UnitRule, AnAliasOfATemplateIsOneOfEachInstance) {
  config::Host identity;
  identity.units.resize(1);
  identity.units[0].name = "alias@*.service";
  Aliases aliases;
  learn_aliases(
      aliases, facts_of("real@trireme.service", {"real@trireme.service", "alias@trireme.service"}));
  EXPECT_EQ(find_rule(identity, aliases, "real@7.service"), &identity.units[0]);
  EXPECT_EQ(find_template_rule(identity, aliases, "real@.service"), &identity.units[0]);
  EXPECT_EQ(find_rule(identity, aliases, "real.service"), nullptr);
  identity.units[0].name = "alias@7.service";
  EXPECT_EQ(find_rule(identity, aliases, "real@7.service"), &identity.units[0]);
  EXPECT_EQ(find_rule(identity, aliases, "real@8.service"), nullptr);
  EXPECT_EQ(find_template_rule(identity, aliases, "real@.service"), nullptr);
  EXPECT_EQ(find_template_rule(identity, aliases, "real@.service", true), &identity.units[0]);
}

TEST(UnitRule, WhatDoesNotExistHasNoNames) {
  Aliases aliases;
  UnitFacts facts = facts_of("a.service", {"a.service", "b.service"});
  facts.load_state = "not-found";
  learn_aliases(aliases, facts);
  EXPECT_TRUE(aliases.empty());
  EXPECT_THAT(names_of(aliases, "a.service"), ElementsAre("a.service"));
}

TEST(UnitName, PrefixesThatSystemdHasDropInsFor) {
  EXPECT_EQ(prefix_of("batch-*.service"), "batch-.service");
  EXPECT_EQ(prefix_of("a-b-*.service"), "a-b-.service");
  for (const char* pattern :
       {"batch*.service", "batch-?.service", "b*-*.service", "-*.service", "a@b-*.service",
        "batch-*x.service", "batch-1.service", "*.service"}) {
    EXPECT_EQ(prefix_of(pattern), "") << pattern;
  }
  EXPECT_EQ(instance_of("db@15-main.service"), "15-main");
  EXPECT_EQ(instance_of("db@.service"), "");
  EXPECT_EQ(instance_of("db.service"), "");
}

TEST(UnitRule, NeverOurselvesNorTheFirstProcess) {
  config::Host identity;
  identity.units.resize(1);
  identity.units[0].name = "*";
  EXPECT_FALSE(match_unit(identity, {}, "/system.slice/trireme.service"));
  EXPECT_FALSE(match_unit(identity, {}, "/init.scope"));
  EXPECT_TRUE(match_unit(identity, {}, "/system.slice/trireme-exporter.service"));
}

TEST(ScopeName, GetsItsSuffixOnce) {
  EXPECT_EQ(*scope_unit_name("web"), "web.scope");
  EXPECT_EQ(*scope_unit_name("web.scope"), "web.scope");
  EXPECT_EQ(*scope_unit_name("a:b-c_d.e@f\\x2d"), "a:b-c_d.e@f\\x2d.scope");
  EXPECT_EQ(*scope_unit_name(std::string(200, 'a')), std::string(200, 'a') + ".scope");
}

TEST(ScopeName, ErrorsNameTheCharacter) {
  EXPECT_THAT(scope_unit_name("a/b").error().message, HasSubstr("contain '/'"));
  EXPECT_THAT(scope_unit_name("a b").error().message, HasSubstr("contain a space"));
  EXPECT_THAT(scope_unit_name("a\nb").error().message, HasSubstr("contain byte 10"));
  EXPECT_THAT(scope_unit_name("\xC3\xA4").error().message, HasSubstr("contain byte 195"));
  EXPECT_THAT(scope_unit_name("%n").error().message, HasSubstr("contain '%'"));
  EXPECT_THAT(scope_unit_name("").error().message, HasSubstr("empty"));
  EXPECT_THAT(scope_unit_name(".scope").error().message, HasSubstr("empty"));
  EXPECT_THAT(scope_unit_name(std::string(201, 'a')).error().message, HasSubstr("200 bytes"));
}

Result<LaunchRequest> launch(const char* params) {
  return parse_launch(json::parse(params));
}

TEST(LaunchParams, AreWhatTheCallerMaySay) {
  const auto asked = launch(R"({"labels": ["app=web", "env=prod"], "properties": ["MemoryMax=1G"],
                                "unit": "web", "changes_user": true, "pid": 1, "uid": 0})");
  ASSERT_TRUE(asked) << asked.error().text();
  EXPECT_EQ(asked->labels.text(), "app=web,env=prod");
  EXPECT_THAT(asked->properties, ElementsAre("MemoryMax=1G"));
  EXPECT_EQ(asked->unit, "web");
  EXPECT_TRUE(asked->changes_user);
  EXPECT_EQ(asked->pid, 0U) << "only the kernel identifies the caller";
}

TEST(LaunchParams, NeedOnlyLabels) {
  const auto asked = launch(R"({"labels": ["app=web", "app=web"]})");
  ASSERT_TRUE(asked) << "the same label twice is not an error";
  EXPECT_TRUE(asked->properties.empty());
  EXPECT_EQ(asked->unit, "");
  EXPECT_FALSE(asked->changes_user);
}

TEST(LaunchParams, ErrorsOfLabels) {
  EXPECT_THAT(launch(R"({"labels": ["app=web", "app=db"]})").error().message,
              HasSubstr("'app' is given twice, as 'web' and 'db'"));
  for (const char* label : {"", "app", "=web", "a b=c", "app=we\\nb", "app=a,b"}) {
    const std::string params = R"({"labels": ["env=prod", ")" + std::string(label) + R"("]})";
    EXPECT_FALSE(launch(params.c_str())) << label;
  }
}

TEST(LaunchParams, OtherTypesAreExceptions) {
  for (const char* params :
       {"{}", R"({"labels": 1})", R"({"labels": [1]})", R"({"labels": [["a=b"]]})",
        R"({"labels": [], "properties": "MemoryMax=1G"})", R"({"labels": [], "properties": [1]})",
        R"({"labels": [], "unit": 1})", R"({"labels": [], "changes_user": "yes"})"}) {
    EXPECT_THROW((void)launch(params), json::exception) << params;
  }
}

}  // namespace
}  // namespace trireme::systemd
