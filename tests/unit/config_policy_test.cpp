// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "config_support.hpp"
#include "trireme/policy/expiry.hpp"

namespace trireme::config {
namespace {

using policy::Baseline;
using policy::Entity;
using policy::Mode;
using policy::Refuse;
using policy::Rule;
using policy::Selector;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A policy with most of what trireme-policy.toml(5) describes.
constexpr const char* kExample = R"toml(# policy.toml
[defaults]
mode = "enforce"              # enforce | audit: log what would be denied, let it pass
baseline = "same-labels"      # same-labels | any-common-label | none
refuse = "reject"             # reject (TCP reset, ICMP) | drop

[[network]]                   # endpoints without labels, by address or DNS name
name = "corp-dns"
cidrs = ["10.0.0.53/32", "fd00::53/128"]
[[network]]
name = "mirror"
names = ["deb.example.org", "*.pool.example.org"]

[[allow]]
name = "web to db"
from = "app=web, env in (prod, staging)"
to   = "app=db"
ports = ["tcp/5432", "udp/8000-8010"]      # absent: all; also "icmp", "icmpv6"
log = true
[[allow]]
from = ["app=web", "app=api"]              # a list is OR, commas are AND
to   = "@corp-dns"
ports = ["udp/53", "tcp/53"]
[[allow]]
from = "@host"                             # any process of this host that is not a workload
to   = "app=nginx"
ports = ["tcp/80"]
mode = "audit"                             # only log what this rule would change

[[deny]]                                   # deny overrides allow, in any order
from = "quarantine"
to   = "*"

[[test]]                                   # a policy that fails one of its tests is not loaded
from = { app = "web", env = "prod" }
to   = { app = "db" }
port = "tcp/5432"
expect = "allow"
)toml";

TEST(ParsePolicy, ReadsEverySection) {
  const Configuration configuration = parse_policy(kExample);
  EXPECT_TRUE(configuration.valid());
  EXPECT_THAT(texts(configuration), IsEmpty());
  const policy::Policy& policy = configuration.policy;
  EXPECT_EQ(policy.mode, Mode::enforce);
  EXPECT_EQ(policy.baseline, Baseline::same_labels);
  EXPECT_EQ(policy.refuse, Refuse::reject);
  EXPECT_TRUE(policy.tell_peers);
  EXPECT_FALSE(parse_policy("[defaults]\ntell_peers = false\n").policy.tell_peers);
  EXPECT_THAT(
      texts(parse_policy("[defaults]\ntell_peers = 'no'\n")),
      ElementsAre(HasSubstr("policy.toml:2:14: error: 'tell_peers' in [defaults] must be")));
  ASSERT_EQ(policy.networks.size(), 2U);
  EXPECT_EQ(policy.networks[0].cidrs[1].text(), "fd00::53/128");
  EXPECT_THAT(policy.networks[1].names, ElementsAre("deb.example.org", "*.pool.example.org"));
  ASSERT_EQ(policy.rules.size(), 4U);
  EXPECT_EQ(policy.tests.size(), 1U);
}

TEST(ParsePolicy, ReadsEveryPartOfARule) {
  const policy::Policy policy = parse_policy(kExample).policy;
  const Rule& web = policy.rules[0];
  EXPECT_EQ(web.text(), "allow 'web to db' (policy.toml:14:1)");
  EXPECT_EQ(std::get<Selector>(web.from.at(0)).text(), "app=web,env in (prod, staging)");
  EXPECT_THAT(web.ports,
              ElementsAre(policy::PortRange{6, 5432, 5432}, policy::PortRange{17, 8000, 8010}));
  EXPECT_TRUE(web.log);
  EXPECT_EQ(policy.rules[1].from.size(), 2U);
  EXPECT_EQ(std::get<Entity>(policy.rules[1].to.at(0)), (Entity{Entity::Kind::network, 0}));
  EXPECT_EQ(std::get<Entity>(policy.rules[2].from.at(0)).kind, Entity::Kind::host);
  EXPECT_EQ(policy.rules[2].mode, Mode::audit);
  EXPECT_EQ(policy.rules[3].action, Rule::Action::deny);
  EXPECT_EQ(std::get<Selector>(policy.rules[3].to.at(0)).text(), "*");
  EXPECT_THAT(policy.rules[3].ports, IsEmpty());
}

TEST(ParsePolicy, NothingAtAllIsTheDefaultPolicy) {
  const Configuration configuration = parse({}, {});
  EXPECT_TRUE(configuration.valid());
  EXPECT_THAT(configuration.diagnostics, IsEmpty());
  EXPECT_EQ(configuration.policy.baseline, Baseline::same_labels);
  EXPECT_TRUE(parse_policy("").valid());
}

TEST(ParsePolicy, ReadsTheOtherChoices) {
  const auto policy =
      parse_policy("[defaults]\nmode='audit'\nbaseline='any-common-label'\nrefuse='drop'\n").policy;
  EXPECT_EQ(policy.mode, Mode::audit);
  EXPECT_EQ(policy.baseline, Baseline::any_common_label);
  EXPECT_EQ(policy.refuse, Refuse::drop);
  EXPECT_EQ(parse_policy("[defaults]\nbaseline='none'\n").policy.baseline, Baseline::none);
}

TEST(ParsePolicy, ProtocolsWithoutPortsCoverAll) {
  const auto configuration =
      parse_policy("[[allow]]\nfrom='*'\nto='*'\nports=['icmp','icmpv6','tcp','udp']\n");
  EXPECT_TRUE(configuration.valid());
  EXPECT_THAT(configuration.policy.rules.at(0).ports,
              ElementsAre(policy::PortRange{1, 0, 65535}, policy::PortRange{58, 0, 65535},
                          policy::PortRange{6, 0, 65535}, policy::PortRange{17, 0, 65535}));
}

TEST(ParsePolicy, RulesMayNameNetworksOfLaterFiles) {
  const Configuration configuration =
      parse({{"policy.toml", "[[allow]]\nfrom='*'\nto='@dns'\n"},
             {"policy.d/20.toml", "[[network]]\nname='dns'\ncidrs=['10.0.0.53']\n"}},
            {});
  EXPECT_THAT(texts(configuration), IsEmpty());
  EXPECT_EQ(std::get<Entity>(configuration.policy.rules.at(0).to.at(0)).kind,
            Entity::Kind::network);
}

TEST(ParsePolicy, AnEntityMayHaveSpaceAround) {
  EXPECT_TRUE(parse_policy("[[allow]]\nfrom=' @host '\nto='app'\n").valid());
}

TEST(ParsePolicy, ANameMayHaveItsFinalDot) {
  const Configuration configuration = parse_policy(
      "[[network]]\nname='mirror'\nnames=['Deb.Example.ORG.', '*.pool.example.org.']\n");
  EXPECT_THAT(texts(configuration), IsEmpty());
  ASSERT_EQ(configuration.policy.networks.size(), 1U);
  EXPECT_THAT(configuration.policy.networks[0].names,
              ElementsAre("deb.example.org", "*.pool.example.org"));
  for (const char* wrong : {".", "..", "*.", "example.org..", "a..b."}) {
    EXPECT_THAT(texts(parse_policy(fmt::format("[[network]]\nname='x'\nnames=['{}']\n", wrong))),
                ElementsAre(HasSubstr(fmt::format("invalid DNS name '{}'", wrong))));
  }
  EXPECT_THAT(texts(parse_policy("[[network]]\nname='x'\nnames=['10.0.0.1.']\n")),
              ElementsAre(HasSubstr("'10.0.0.1.' is an address, not a name")));
}

TEST(ParsePolicy, ADenyRuleByNameIsWarnedOf) {
  const std::string network = "[[network]]\nname='mirror'\nnames=['deb.example.org']\n";
  EXPECT_THAT(texts(parse_policy(network + "[[allow]]\nfrom='*'\nto='@mirror'\n")), IsEmpty());
  const Configuration denied = parse_policy(network + "[[deny]]\nfrom='*'\nto='@mirror'\n");
  EXPECT_TRUE(denied.valid());
  EXPECT_THAT(texts(denied),
              ElementsAre(HasSubstr(
                  "policy.toml:4:1: warning: this deny rule only matches addresses of '@mirror'")));
}

TEST(ParsePolicy, ARuleMayExpire) {
  const auto until = [](const std::string& value) {
    const Configuration configuration =
        parse_policy("[[deny]]\nfrom = '*'\nto = '*'\nuntil = " + value + "\n");
    EXPECT_THAT(texts(configuration), IsEmpty());
    return policy::text(configuration.policy.rules.at(0).until.value());
  };
  EXPECT_EQ(until("2026-12-01T00:00:00Z"), "2026-12-01T00:00:00Z");
  EXPECT_EQ(until("2026-12-01 01:30:05+01:30"), "2026-12-01T00:00:05Z");
  EXPECT_EQ(until("2026-12-31T20:00:00-05:00"), "2027-01-01T01:00:00Z");
  EXPECT_EQ(until("9999-12-31T23:59:59Z"), "9999-12-31T23:59:59Z");
  EXPECT_EQ(until("1970-01-01T00:00:00.000Z"), "1970-01-01T00:00:00Z");
  EXPECT_FALSE(parse_policy("[[allow]]\nfrom='*'\nto='*'\n").policy.rules.at(0).until);
}

// Whether a file is valid does not depend on the time: a daemon that starts later must not find
// another result.
TEST(ParsePolicy, AnExpiredRuleIsReadAndTested) {
  const Configuration configuration = parse_policy(
      "[[allow]]\nfrom='app=web'\nto='app=db'\nuntil=2000-01-01T00:00:00Z\n"
      "[[test]]\nfrom={app='web'}\nto={app='db'}\nexpect='allow'\n");
  EXPECT_THAT(texts(configuration), IsEmpty());
  EXPECT_THAT(configuration.policy.rules, testing::SizeIs(1));
}

TEST(ParsePolicy, ManyExpiredRulesAreCounted) {
  std::string content;
  for (int i = 0; i < 150; ++i) {
    content += "[[allow]]\nfrom='app=a'\nto='app=b'\nports='tcp/" + std::to_string(i + 1) +
               "'\nuntil=2000-01-01T00:00:00Z\n";
  }
  const auto warnings = expired_rules(parse_policy(content).policy, policy::now());
  ASSERT_EQ(warnings.size(), 101U);
  EXPECT_EQ(warnings.back().text(), "warning: 50 more rules expired; remove these first");
}

TEST(ParsePolicy, CountsAreBounded) {
  std::string content;
  for (int i = 0; i < 65536; ++i) {
    content += "[[deny]]\nfrom='*'\nto='*'\n";
  }
  const Configuration configuration = parse_policy(content);
  EXPECT_THAT(texts(configuration),
              ElementsAre("policy.toml:196606:1: error: more than 65535 rules; use selectors and "
                          "lists to cover many peers with one rule"));
}

TEST(ParsePolicy, ADeepKeyIsAnErrorNotAnOverflow) {
  std::string deep = "a";
  for (int i = 0; i < 100'000; ++i) {
    deep += ".a";
  }
  for (const char* start :
       {"", "[", "x = {", "x = {y = \"\"\"a\"\"\"\"\", ", "x = {y = '''a'''', "}) {
    const std::string before = start;
    EXPECT_THAT(texts(parse_policy("\n" + before + deep + " = 1}\n")),
                ElementsAre(HasSubstr("policy.toml:2:" + std::to_string(before.size() + 34) +
                                      ": error: this key has too many dots, which nest too deep")));
  }
  EXPECT_FALSE(parse_policy("x = " + std::string(100'000, '[') + "\n").valid());
  const std::string dots(100, '.');
  EXPECT_TRUE(parse_policy("# " + dots + "\n[[allow]]\nname = \"" + dots + "\"\nfrom='*'\nto='*'\n")
                  .valid())
      << "dots in strings do not create nested tables";
  EXPECT_TRUE(
      parse_policy("[[allow]]\nname = \"\"\"\n\\\" ' " + dots + "\"\"\"\nfrom='*'\nto='*'\n")
          .valid());
}

// A generator can write a whole policy on one line.
TEST(ParsePolicy, PlacesInALongLine) {
  std::string line = "allow = [";
  for (int i = 0; i < 2000; ++i) {
    line += "{from='app=é" + std::to_string(i) + "',to='b'},";
  }
  const std::string column = std::to_string(line.size() + 2);
  line += "{x=1,from='a',to='b'}]\n";
  EXPECT_THAT(texts(parse_policy(line)),
              ElementsAre(HasSubstr("policy.toml:1:" + column + ": error: unknown key 'x'")));
}

// A drop-in with a syntax error leaves thousands of rules without their networks.
TEST(ParsePolicy, ManyUnknownNetworksAreNotAllCompared) {
  std::string content = "[[network]]\nname='mirror'\ncidrs=['10.0.0.1']\n";
  for (int i = 0; i < 101; ++i) {
    content += "[[allow]]\nfrom='app=a" + std::to_string(i) + "'\nto='@miror'\n";
  }
  for (int i = 0; i < 5; ++i) {
    content += "[[test]]\nfrom='@miror'\nto={app='a1'}\nexpect='allow'\n";
  }
  const auto lines = texts(parse_policy(content));
  ASSERT_EQ(lines.size(), 106U);
  EXPECT_THAT(lines.at(99), HasSubstr("did you mean '@mirror'?"));
  EXPECT_THAT(lines.at(100), HasSubstr("define it: [[network]] name = \"miror\""));
  EXPECT_THAT(lines.at(105), HasSubstr("define it: [[network]] name = \"miror\""));
}

TEST(ParsePolicy, LongValuesAreCutInMessages) {
  std::string value;
  for (int i = 0; i < 50'000; ++i) {
    value += "é";
  }
  const auto lines = texts(parse_policy("[[allow]]\nfrom='*'\nto='*'\nports='x" + value + "'\n"));
  ASSERT_EQ(lines.size(), 1U);
  EXPECT_LT(lines[0].size(), 5000U);
  EXPECT_TRUE(policy::is_printable(lines[0]));
  EXPECT_THAT(lines[0], HasSubstr("…"));
}

TEST(ParsePolicy, ManyErrorsAreCountedNotKept) {
  std::string content;
  for (int i = 0; i < 3000; ++i) {
    content += "k" + std::to_string(i) + " = 1\n";
  }
  const Configuration configuration = parse_policy(content);
  EXPECT_EQ(configuration.diagnostics.size(), 1001U);
  EXPECT_THAT(configuration.diagnostics.back().text(),
              HasSubstr("2000 more problems are not shown"));
  EXPECT_FALSE(configuration.valid());
}

TEST(ParsePolicy, AnErrorAfterAnyNumberOfWarningsIsKept) {
  std::string content = "[[network]]\nname='mirror'\nnames=['deb.example.org']\n";
  for (int i = 0; i < 1100; ++i) {
    content += "[[deny]]\nfrom='*'\nto='@mirror'\n";
  }
  EXPECT_TRUE(parse_policy(content).valid()) << "only warnings";
  const Configuration configuration =
      parse_policy(content + "[[test]]\nfrom={app='a'}\nto={app='b'}\nexpect='allow'\n");
  EXPECT_FALSE(configuration.valid());
  EXPECT_THAT(texts(configuration), testing::Contains(HasSubstr("test failed: expected allow")));
}

}  // namespace
}  // namespace trireme::config
