// SPDX-License-Identifier: Apache-2.0
// What lint() finds in policies, and what it must not find.
#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "trireme/policy/lint.hpp"

namespace trireme::policy {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Selector parsed(const std::string& text) {
  return Selector::parse(text).value();
}

PortRange tcp(std::uint16_t first, std::uint16_t last = 0) {
  return {6, first, last == 0 ? first : last};
}

/// A policy without files. Rules get the lines 1, 2, ...
class Lint : public testing::Test {
 protected:
  static Peer peer(const std::string& text) {
    if (text == "@host") {
      return Entity{Entity::Kind::host, 0};
    }
    if (text == "@world") {
      return Entity{Entity::Kind::world, 0};
    }
    if (text.starts_with("@")) {
      return Entity{Entity::Kind::network, static_cast<std::size_t>(std::stoi(text.substr(1)))};
    }
    return parsed(text);
  }
  Rule& add(Rule::Action action, const std::vector<std::string>& from,
            const std::vector<std::string>& to, std::vector<PortRange> ports = {},
            const std::string& name = "") {
    Rule rule;
    rule.action = action;
    rule.name = name;
    for (const std::string& text : from) {
      rule.from.push_back(peer(text));
    }
    for (const std::string& text : to) {
      rule.to.push_back(peer(text));
    }
    rule.ports = std::move(ports);
    rule.where = {"p", static_cast<std::uint32_t>(policy_.rules.size() + 1), 1};
    policy_.rules.push_back(std::move(rule));
    return policy_.rules.back();
  }
  Rule& allow(const std::vector<std::string>& from, const std::vector<std::string>& to,
              std::vector<PortRange> ports = {}, const std::string& name = "") {
    return add(Rule::Action::allow, from, to, std::move(ports), name);
  }
  Rule& deny(const std::vector<std::string>& from, const std::vector<std::string>& to,
             std::vector<PortRange> ports = {}) {
    return add(Rule::Action::deny, from, to, std::move(ports));
  }
  void add_network(const std::string& name, const std::string& cidr, const std::string& dns = "") {
    Network network;
    network.name = name;
    if (!cidr.empty()) {
      network.cidrs.push_back(Prefix::parse(cidr).value());
    }
    if (!dns.empty()) {
      network.names.push_back(dns);
    }
    policy_.networks.push_back(std::move(network));
  }
  /// "p:2:1 selector: MESSAGE; HINT"
  [[nodiscard]] std::vector<std::string> found() const {
    std::vector<std::string> lines;
    for (const Finding& finding : lint(policy_, known_)) {
      lines.push_back(finding.where.text() + " " + text(finding.kind) + ": " + finding.message +
                      "; " + finding.hint);
    }
    return lines;
  }

  Policy policy_;
  Vocabulary known_;
};

TEST_F(Lint, AnAddressIsNoLabelKey) {
  allow({"app=web"}, {"10.0.0.0/8"});
  allow({"app=web", "!192.0.2.1"}, {"app=db"});
  EXPECT_THAT(found(),
              ElementsAre("p:1:1 selector: '10.0.0.0/8' in 'to' is read as a label key, not as an "
                          "address; define a [[network]] with name = \"NAME\" and cidrs = "
                          "[\"10.0.0.0/8\"], and write to = \"@NAME\"",
                          HasSubstr("p:2:1 selector: '192.0.2.1' in 'from' is read as")));
  add_network("corp", "10.0.0.0/8");
  EXPECT_THAT(found(), testing::Contains(HasSubstr("did you mean '@corp'?")));
}

TEST_F(Lint, ADnsNameIsNoLabelKey) {
  allow({"app=web"}, {"example.com"});
  allow({"app=web"}, {"mirror.debian.org"}, {tcp(80)});
  EXPECT_THAT(found(), ElementsAre(AllOf(HasSubstr("p:1:1 selector: 'example.com' in 'to' is read "
                                                   "as a label key, not as a DNS name"),
                                         HasSubstr("names = [\"example.com\"]")),
                                   HasSubstr("p:2:1 selector: 'mirror.debian.org'")));
  add_network("mirror", "", "mirror.debian.org");
  EXPECT_THAT(found(), testing::Contains(HasSubstr("did you mean '@mirror'?")));
}

TEST_F(Lint, SelectorsAreNoRegularExpressions) {
  allow({"app=~web*"}, {"app=db"});
  deny({"app=api"}, {"env notin (prod, ~dev)"});
  EXPECT_THAT(
      found(),
      ElementsAre(
          "p:1:1 selector: '~web*' in 'from' is read as a value that begins with '~', not "
          "as a regular expression; did you mean 'web*'? A value can end in '*', which "
          "matches a prefix",
          AllOf(HasSubstr("p:2:1 selector: '~dev' in 'to'"), HasSubstr("did you mean 'dev'?"))));
  known_.add("app", "~web-1");
  known_.add("app", "~dev");
  EXPECT_THAT(found(), ElementsAre(HasSubstr("p:2:1 selector: '~dev' in 'to'")))
      << "a workload has such a label of app, but none of env";
}

TEST_F(Lint, ASelectorThatContradictsItself) {
  allow({"app=web,app=db"}, {"env=prod"});
  EXPECT_THAT(found(),
              ElementsAre("p:1:1 selector: a selector in 'from' matches no workload: 'app=db' "
                          "contradicts 'app=web'; a comma means AND; for either of them, write a "
                          "list: from = [\"app=db\", \"app=web\"]"));
  for (const char* text :
       {"app,!app", "app=web,!app", "app!=web,app=web", "app!=web,app!=db,app=web",
        "app!=w*,app=web", "app!=w*,app=web*", "app notin (a, b),app in (b, a)", "app=a*,app=b*",
        "app!=*,app", "app!=*,app=web", "app in (a, b*),app in (c, d)", "a=1,app=x,app=y,z=1"}) {
    policy_.rules.clear();
    deny({"env=prod"}, {text});
    EXPECT_THAT(found(),
                ElementsAre(HasSubstr("selector: a selector in 'to' matches no workload: '")))
        << text;
  }
}

TEST_F(Lint, OfAContradictionOnlyTheTwoConditionsAreQuoted) {
  std::string text = "app=db,app=web";
  for (int i = 0; i < 100; ++i) {
    text += ",other" + std::to_string(i);
  }
  allow({text}, {"env=prod"});
  EXPECT_THAT(found(), ElementsAre(testing::Not(HasSubstr("other"))));
}

TEST_F(Lint, ASelectorThatDoesNotContradictItself) {
  for (const char* text :
       {"*", "app=web,env=db", "app,app=web", "app!=web,app", "app!=web,!app", "app!=web,app!=db",
        "app!=web,app=web*", "app=web*,app=web-1", "app=w*,app=web*", "app in (a, b),app in (b, c)",
        "app in (a, b),app!=a", "app!=w*,app", "app!=*,!app", "app=,app!=a*", "app,!env"}) {
    policy_.rules.clear();
    allow({text}, {"zone=a"});
    EXPECT_THAT(found(), IsEmpty()) << text;
  }
}

TEST_F(Lint, KeysWithDomainsAreKeys) {
  for (const char* key : {"com.docker.compose.project", "app.kubernetes.io/name",
                          "app.kubernetes.io", "io.podman.x", "team", "tier.backend", "v1.2"}) {
    allow({key}, {"app=db"});
    EXPECT_THAT(found(), IsEmpty()) << key;
    policy_.rules.clear();
  }
}

TEST_F(Lint, OnlyCountriesThatExistEndDnsNames) {
  for (const char* key : {"shop.example.de", "db.fo", "x.zw", "a.uk", "a.eu"}) {
    policy_.rules.clear();
    allow({key}, {"app=db"});
    EXPECT_THAT(found(), ElementsAre(HasSubstr("not as a DNS name"))) << key;
  }
  for (const char* key : {"tier.db", "role.vm", "a.aa", "a.zz", "a.b1", "a.xyz"}) {
    policy_.rules.clear();
    allow({key}, {"app=db"});
    EXPECT_THAT(found(), IsEmpty()) << key;
  }
}

TEST_F(Lint, AValueInsteadOfALabel) {
  allow({"web"}, {"app=db"});
  EXPECT_THAT(found(), IsEmpty()) << "nothing is called web";
  allow({"app=web"}, {"tier=web"}, {tcp(1)});
  EXPECT_THAT(found(),
              ElementsAre("p:1:1 selector: 'web' in 'from' is read as a label key, but only label "
                          "values are called that; did you mean 'app=web' or 'tier=web'?"));
}

TEST_F(Lint, AValueOfAWorkloadInsteadOfALabel) {
  deny({"*"}, {"quarantine"});
  EXPECT_THAT(found(), IsEmpty()) << "the contract's example";
  LabelSet labels;
  ASSERT_TRUE(labels.set("state", "quarantine"));
  known_.add(labels);
  EXPECT_THAT(found(), ElementsAre(HasSubstr("did you mean 'state=quarantine'?")));
  ASSERT_TRUE(labels.set("quarantine", ""));
  known_.add(labels);
  EXPECT_THAT(found(), IsEmpty()) << "now a workload has the key";
}

TEST_F(Lint, AKeyThatTheFilesCompareExists) {
  allow({"web"}, {"app=web"});
  allow({"web notin (x)"}, {"app=api"});
  EXPECT_THAT(found(), IsEmpty());
  policy_.rules.pop_back();
  PolicyTest test;
  LabelSet labels;
  ASSERT_TRUE(labels.set("web", "yes"));
  test.from.peer = labels;
  test.to.peer = LabelSet();
  policy_.tests.push_back(test);
  EXPECT_THAT(found(), IsEmpty());
  policy_.tests.clear();
  EXPECT_THAT(found(), testing::SizeIs(1));
}

TEST_F(Lint, Duplicates) {
  allow({"app=web", "app=api"}, {"app=db"}, {tcp(1), tcp(2)}, "first");
  allow({"app=api", "app=web"}, {"app=db"}, {tcp(1, 2)});
  EXPECT_THAT(found(), ElementsAre("p:2:1 duplicate: this rule repeats allow 'first' (p:1:1); "
                                   "remove one of them"));
}

TEST_F(Lint, RulesThatAnotherIncludes) {
  allow({"app=web,env=prod"}, {"app=db"}, {tcp(5432)});
  allow({"app=web"}, {"app in (db, cache)"}, {tcp(5000, 6000)});
  allow({"app=w*"}, {"*"}, {tcp(5001), tcp(5002)});
  allow({"app=web"}, {"app=db"}, {tcp(5001)});
  EXPECT_THAT(found(),
              ElementsAre("p:1:1 shadowed: this rule has no effect: allow (p:2:1) includes it; "
                          "remove it, or narrow the other rule",
                          HasSubstr("p:4:1 shadowed: this rule has no effect: allow (p:2:1)")));
}

TEST_F(Lint, ADenyRuleMakesAllowRulesUseless) {
  allow({"app=web"}, {"@world"}, {tcp(443)}, "updates");
  deny({"*"}, {"@world"});
  EXPECT_THAT(found(),
              ElementsAre("p:1:1 shadowed: this rule has no effect: deny (p:2:1) denies everything "
                          "that it allows; a deny rule overrides every allow rule; narrow it, or "
                          "remove this rule"));
  policy_.rules.back().mode = Mode::audit;
  EXPECT_THAT(found(), IsEmpty()) << "a rule in audit mode denies nothing";
}

TEST_F(Lint, AnAllowRuleMakesNoDenyRuleUseless) {
  allow({"*"}, {"*"});
  deny({"app=web"}, {"app=db"});
  EXPECT_THAT(found(), IsEmpty());
}

TEST_F(Lint, AuditedRulesHideNoEnforcedOnes) {
  allow({"*"}, {"app=db"}).mode = Mode::audit;
  allow({"app=web"}, {"app=db"});
  EXPECT_THAT(found(), IsEmpty());
  policy_.rules[1].mode = Mode::audit;
  EXPECT_THAT(found(), testing::SizeIs(1)) << "both are only tried";
  policy_.rules[0].mode = Mode::enforce;
  EXPECT_THAT(found(), testing::SizeIs(1)) << "an audited rule changes nothing any more";
}

TEST_F(Lint, ARuleThatLogsHasAnEffect) {
  allow({"*"}, {"app=db"});
  allow({"app=web"}, {"app=db"}).log = true;
  EXPECT_THAT(found(), IsEmpty());
  policy_.rules[0].log = true;
  EXPECT_THAT(found(), testing::SizeIs(1));
}

// Each pair is (wider, narrower); the opposite is never found.
TEST_F(Lint, WhichSelectorsIncludeWhich) {
  for (const auto& [wide, narrow] :
       std::vector<std::pair<std::string, std::string>>{{"*", "app=web"},
                                                        {"app", "app=web"},
                                                        {"app", "app in (a, b)"},
                                                        {"app=w*", "app=web"},
                                                        {"app=w*", "app=we*"},
                                                        {"app in (a, b, c)", "app in (a, c)"},
                                                        {"app!=a", "app=b"},
                                                        {"app!=a", "!app"},
                                                        {"app!=a", "app notin (a, b)"},
                                                        {"app notin (a*)", "app=b"},
                                                        {"app=a", "app=a, env=x"},
                                                        {"app=a, env", "app=a, env=x, zone=1"},
                                                        {"*", "!app"}}) {
    for (const bool reversed : {false, true}) {
      policy_.rules.clear();
      allow({reversed ? narrow : wide}, {"app=db"});
      allow({reversed ? wide : narrow}, {"app=db"});
      EXPECT_THAT(found(), ElementsAre(HasSubstr(reversed ? "p:1:1 shadowed" : "p:2:1 shadowed")))
          << wide << " includes " << narrow;
    }
  }
  for (const auto& [one, other] :
       std::vector<std::pair<std::string, std::string>>{{"app=a", "app=b"},
                                                        {"app=a", "env=a"},
                                                        {"app!=a", "app=a"},
                                                        {"app!=a", "app=a*"},
                                                        {"app notin (a*)", "app=ab"},
                                                        {"app=a*", "app=b*"},
                                                        {"!app", "app"},
                                                        {"app notin (a)", "app notin (b)"},
                                                        {"app", "app!=a"}}) {
    policy_.rules.clear();
    allow({one}, {"app=db"});
    allow({other}, {"app=db"});
    EXPECT_THAT(found(), IsEmpty()) << one << " and " << other;
  }
}

TEST_F(Lint, EntitiesIncludeOnlyThemselves) {
  add_network("a", "10.0.0.0/8");
  add_network("b", "10.0.0.0/16");
  for (const char* one : {"@host", "@world", "@0", "@1"}) {
    allow({one}, {"app=db"});
  }
  allow({"*"}, {"app=db"});
  EXPECT_THAT(found(), IsEmpty());
  allow({"@1", "@host"}, {"app=db"}, {tcp(80)});
  EXPECT_THAT(found(), IsEmpty()) << "no single rule includes it";
  allow({"@1"}, {"app=db"}, {tcp(80)});
  EXPECT_THAT(found(), ElementsAre(HasSubstr("p:7:1 shadowed")));
}

TEST_F(Lint, Ports) {
  allow({"app=a"}, {"app=b"}, {tcp(80), tcp(1, 1024), tcp(1000, 2000), {17, 53, 53}});
  EXPECT_THAT(found(), ElementsAre("p:1:1 ports: 'ports' lists tcp/80 although tcp/1-1024 includes "
                                   "it; remove it"));
  policy_.rules.clear();
  allow({"app=a"}, {"app=b"}, {{6, 0, 65535}});
  allow({"app=a"}, {"app=b"}, {tcp(1, 65535)});
  EXPECT_THAT(found(), ElementsAre(HasSubstr("p:2:1 duplicate")));
  policy_.rules.clear();
  allow({"app=a"}, {"app=b"});
  allow({"app=a"}, {"app=b"}, {{6, 0, 65535}});
  EXPECT_THAT(found(), ElementsAre(HasSubstr("p:2:1 shadowed"))) << "tcp is not everything";
}

TEST_F(Lint, UnusedNetworks) {
  add_network("a", "10.0.0.0/8");
  add_network("b", "192.0.2.0/24");
  allow({"app=web"}, {"@1"});
  EXPECT_THAT(found(),
              ElementsAre(HasSubstr("network: no rule uses the network 'a'; remove it, or write "
                                    "\"@a\" in a rule")));
}

TEST_F(Lint, RulesWiderThanTheirName) {
  const auto of = [this](const std::string& name, const std::vector<std::string>& from,
                         const std::vector<std::string>& to, std::vector<PortRange> ports = {}) {
    policy_.rules.clear();
    allow(from, to, std::move(ports), name);
    std::vector<std::string> lines;
    for (const std::string& line : found()) {
      if (line.find(" name: ") != std::string::npos) {
        lines.push_back(line);
      }
    }
    return lines;
  };
  known_.add("app", "web");
  known_.add("app", "db");
  known_.add("app", "api");
  EXPECT_THAT(of("web to db", {"*"}, {"app=db"}),
              ElementsAre("p:1:1 name: this rule is wider than its name 'web to db': 'from' also "
                          "matches every workload; narrow it, or give it another name"));
  EXPECT_THAT(of("Web -> DB", {"app"}, {"app=db"}), ElementsAre(HasSubstr("matches every app")));
  EXPECT_THAT(of("web to db", {"app=web", "app=api"}, {"app=db"}),
              ElementsAre(HasSubstr("also matches app=api")));
  EXPECT_THAT(of("web to db", {"app=web"}, {"app=db", "@world"}),
              ElementsAre(HasSubstr("'to' also matches @world")));
  EXPECT_THAT(of("web to db", {"app=web", "@host"}, {"app=db"}),
              ElementsAre(HasSubstr("'from' also matches @host")));
  EXPECT_THAT(of("updates over https", {"app=web"}, {"@world"}),
              ElementsAre(HasSubstr("it has no 'ports'")));
  EXPECT_THAT(of("open tcp/5432", {"app=web"}, {"app=db"}), testing::SizeIs(1));

  for (const auto& [name, from] : std::vector<std::pair<std::string, std::string>>{
           {"web to db", "app=web"},
           {"web to db", "app=web, env in (prod, staging)"},
           {"web to db", "app=web-canary"},
           {"web to db", "app in (web, web-canary)"},
           {"webs to db", "app=web*"},
           {"web and api to db", "app in (web, api)"},
           {"production web to db", "env=prod"},
           {"every web to db", "*"},
           {"clients to db", "*"},
           {"web", "*"},
           {"", "*"}}) {
    EXPECT_THAT(of(name, {from}, {"app=db"}), IsEmpty()) << name << " from " << from;
  }
  EXPECT_THAT(of("updates over https", {"app=web"}, {"@world"}, {tcp(443)}), IsEmpty());
  EXPECT_THAT(of("web to the world", {"app=web"}, {"@world"}), IsEmpty());
  known_.add("tier", "web");
  EXPECT_THAT(of("web to db", {"app=shop, tier=web"}, {"app=db"}), IsEmpty())
      << "another workload has app=web";
  EXPECT_THAT(of("web to db", {"app, tier=web"}, {"app=db"}), IsEmpty());
  EXPECT_THAT(of("web to db", {"app=shop, tier"}, {"app=db"}), testing::SizeIs(1));
  known_.add("app", "redis");
  EXPECT_THAT(of("web to redis", {"app=web"}, {"app=redis"}), IsEmpty())
      << "a label, not a service";
  add_network("corp-dns", "10.0.0.53");
  EXPECT_THAT(of("web to dns", {"app=web"}, {"@0"}), IsEmpty()) << "a network, not a service";
}

TEST_F(Lint, WorkIsBounded) {
  for (std::uint16_t i = 1; i <= 3000; ++i) {
    allow({"*"}, {"*"}, {tcp(i)});
  }
  EXPECT_THAT(found(), ElementsAre(HasSubstr("were not compared with the others")));
}

TEST_F(Lint, ManyConditionsAreBounded) {
  std::string conditions = "app";
  for (int i = 0; i < 5000; ++i) {
    conditions += ",app!=" + std::to_string(i);
  }
  allow({conditions}, {"app=db"});
  allow({conditions + ",app!=x"}, {"app=db"});
  EXPECT_THAT(found(), ElementsAre(HasSubstr("were not compared with the others")));
}

TEST_F(Lint, LongListsAreCompared) {
  std::string values = "a0";
  for (int i = 1; i < 50'000; ++i) {
    values += ", a" + std::to_string(i);
  }
  allow({"app in (" + values + ", c*)"}, {"app=db"});
  allow({"app in (" + values + ", cd*, cc)"}, {"app=db"});
  EXPECT_THAT(found(), ElementsAre(HasSubstr("p:2:1 shadowed"))) << "c* includes cd* and cc";
  policy_.rules.clear();
  allow({"app in (" + values + "), app notin (b, c*)"}, {"app=db"});
  EXPECT_THAT(found(), IsEmpty());
  policy_.rules.clear();
  allow({"app in (" + values + "), app in (b, a4999*)"}, {"app=db"});
  EXPECT_THAT(found(), IsEmpty());
  policy_.rules.clear();
  allow({"app in (" + values + "), app in (b, a50000*)"}, {"app=db"});
  EXPECT_THAT(found(), ElementsAre(HasSubstr("matches no workload")));
}

// A thousand rules that differ in their labels are compared with few others.
TEST_F(Lint, ManyRulesAreCompared) {
  for (int i = 0; i < 5000; ++i) {
    allow({"app=a" + std::to_string(i)}, {"app=b"}, {tcp(1)});
  }
  allow({"app=a17, env=x"}, {"app=b"}, {tcp(1)});
  EXPECT_THAT(found(), ElementsAre(HasSubstr("p:5001:1 shadowed: this rule has no effect: allow "
                                             "(p:18:1)")));
}

TEST(LintKinds, TheFirstThreeAreWarningsAtLoad) {
  using Kind = Finding::Kind;
  for (const Kind kind : {Kind::selector, Kind::shadowed, Kind::duplicate, Kind::name}) {
    EXPECT_TRUE(warns_at_load(kind)) << text(kind);
  }
  for (const Kind kind : {Kind::network, Kind::ports, Kind::unfinished}) {
    EXPECT_FALSE(warns_at_load(kind)) << text(kind);
  }
}

}  // namespace
}  // namespace trireme::policy
