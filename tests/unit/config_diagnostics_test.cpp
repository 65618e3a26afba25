// SPDX-License-Identifier: Apache-2.0
// The exact text of diagnostics.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <algorithm>

#include "config_support.hpp"

namespace trireme::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

// The diagnostics of a policy with one rule that consists of `lines` (the first one is line 2).
std::vector<std::string> of_rule(const std::string& lines) {
  return texts(parse_policy("[[allow]]\n" + lines));
}

TEST(Diagnostics, UnknownKeys) {
  EXPECT_THAT(
      of_rule("form = 'app'\nto = 'app'\n"),
      ElementsAre("policy.toml:2:1: error: unknown key 'form' in [[allow]]; did you mean 'from'?"));
  EXPECT_THAT(of_rule("from = 'a'\nto = 'b'\n  colour = 1\n"),
              ElementsAre("policy.toml:4:3: error: unknown key 'colour' in [[allow]]; valid keys: "
                          "name, from, to, ports, log, mode, until"));
  EXPECT_THAT(texts(parse_policy("[default]\n[[alow]]\n")),
              ElementsAre("policy.toml:1:2: error: unknown key 'default'; did you mean 'defaults'?",
                          "policy.toml:2:3: error: unknown key 'alow'; did you mean 'allow'?"));
  EXPECT_THAT(
      texts(parse_policy("[docker]\n")),
      ElementsAre("policy.toml:1:2: error: unknown key 'docker'; it belongs in identity.toml"));
  EXPECT_THAT(
      texts(parse_identity("[[allow]]\n")),
      ElementsAre("identity.toml:1:3: error: unknown key 'allow'; it belongs in policy.toml"));
  EXPECT_THAT(
      texts(parse_policy("[defaults]\nMode = 'audit'\n")),
      ElementsAre(
          "policy.toml:2:1: error: unknown key 'Mode' in [defaults]; did you mean 'mode'?"));
}

TEST(Diagnostics, UnknownValues) {
  EXPECT_THAT(
      texts(parse_policy("[defaults]\nmode = 'enforced'\nbaseline = 'same'\nrefuse = 'deny'\n")),
      ElementsAre("policy.toml:2:8: error: unknown value 'enforced' for 'mode' in [defaults]; did "
                  "you mean 'enforce'?",
                  "policy.toml:3:12: error: unknown value 'same' for 'baseline' in [defaults]; did "
                  "you mean 'same-labels'?",
                  "policy.toml:4:10: error: unknown value 'deny' for 'refuse' in [defaults]; use "
                  "one of: reject, drop"));
}

TEST(Diagnostics, WrongTypes) {
  EXPECT_THAT(
      of_rule("name = 1\nfrom = 5\nto = { app = 'web' }\nports = 80\nlog = 'yes'\nmode = false\n"),
      ElementsAre("policy.toml:2:8: error: 'name' in [[allow]] must be a string, not an integer; "
                  "put it in quotes",
                  "policy.toml:3:8: error: 'from' in [[allow]] must be a string or a list of "
                  "strings, not an integer",
                  "policy.toml:4:6: error: 'to' in [[allow]] must be a string or a list of "
                  "strings, not a table",
                  "policy.toml:5:9: error: 'ports' in [[allow]] must be a string or a list of "
                  "strings, not an integer",
                  "policy.toml:6:7: error: 'log' in [[allow]] must be true or false, not a string; "
                  "remove the quotes",
                  "policy.toml:7:8: error: 'mode' in [[allow]] must be a string, not a boolean; "
                  "put it in quotes"));
  EXPECT_THAT(
      of_rule("from = ['a', 1.5]\nto = ['b', 1979-05-27]\n"),
      ElementsAre("policy.toml:2:14: error: 'from' in [[allow]] must contain strings, not a "
                  "number; put each element in quotes",
                  "policy.toml:3:12: error: 'to' in [[allow]] must contain strings, not a "
                  "date or time; put each element in quotes"));
  EXPECT_THAT(texts(parse_policy("[allow]\nfrom = 'a'\n")),
              ElementsAre("policy.toml:1:1: error: 'allow' must be a list of tables, not a table; "
                          "write [[allow]], with double brackets"));
  EXPECT_THAT(
      texts(parse_policy("allow = ['app=web']\ndefaults = 'audit'\n")),
      ElementsAre("policy.toml:1:10: error: 'allow' must contain tables, not a string; write "
                  "[[allow]] and the keys below it",
                  "policy.toml:2:12: error: 'defaults' must be a table, not a string; "
                  "write [defaults], with single brackets"));
}

TEST(Diagnostics, TimesNeedAnOffset) {
  const auto of = [](const std::string& value) {
    return of_rule("from='*'\nto='*'\nuntil = " + value + "\n");
  };
  EXPECT_THAT(
      of("2026-12-01T00:00:00"),
      ElementsAre("policy.toml:4:9: error: 'until' in [[allow]] has no offset from UTC; add "
                  "it: 2026-12-01T00:00:00Z, or +01:00 instead of Z"));
  EXPECT_THAT(
      of("2026-12-01T00:00:00.5Z"),
      ElementsAre("policy.toml:4:9: error: 'until' in [[allow]] has a fraction of a second; "
                  "write whole seconds"));
  EXPECT_THAT(of("'2026-12-01T00:00:00Z'"),
              ElementsAre("policy.toml:4:9: error: 'until' in [[allow]] must be a date and a time, "
                          "not a string; remove the quotes: 2026-12-01T00:00:00Z"));
  for (const char* value : {"2026-12-01", "12:00:00"}) {
    EXPECT_THAT(of(value),
                ElementsAre("policy.toml:4:9: error: 'until' in [[allow]] must be a date "
                            "and a time; write 2026-12-01T00:00:00Z"));
  }
  EXPECT_THAT(of("1"), ElementsAre(HasSubstr("must be a date and a time, not an integer")));
  EXPECT_THAT(of("2026-02-30T00:00:00Z"), SizeIs(1)) << "a syntax error";
}

TEST(Diagnostics, Selectors) {
  EXPECT_THAT(of_rule("from = ''\nto = 'app=web,'\n"),
              ElementsAre("policy.toml:2:9: error: empty selector; write '*' for every workload, "
                          "or a condition such as app=web",
                          "policy.toml:3:15: error: missing condition; separate conditions with "
                          "single commas"));
  EXPECT_THAT(of_rule("from = []\nto = 'app=a=b'\n"),
              ElementsAre("policy.toml:2:8: error: 'from' is an empty list, which matches nothing; "
                          "\"*\" matches every workload",
                          "policy.toml:3:12: error: unexpected second '='; a value cannot contain "
                          "'='; separate conditions with commas"));
  EXPECT_THAT(
      of_rule("to = 'app'\n"),
      ElementsAre(
          "policy.toml:1:1: error: this rule has no 'from'; from = \"*\" matches every workload"));
}

TEST(Diagnostics, Ipv6AddressesAreNoSelectors) {
  for (const char* address : {"fd00::/8", "2001:db8::1"}) {
    EXPECT_THAT(of_rule(fmt::format("from = '*'\nto = '{}'\n", address)),
                ElementsAre(fmt::format("policy.toml:3:6: error: '{0}' is an address, not a "
                                        "selector; define a [[network]] with name = \"NAME\" and "
                                        "cidrs = [\"{0}\"], and write \"@NAME\"",
                                        address)));
  }
}

TEST(Diagnostics, ColumnsPointIntoPlainStringsInBytes) {
  EXPECT_THAT(
      of_rule("from = 'app=w*b'\nto='a'\n"),
      ElementsAre(HasSubstr("policy.toml:2:14: error: '*' is allowed only at the end of a value")));
  EXPECT_THAT(of_rule("from = [\"a\", \"app=w*b\"]\nto='a'\n"),
              ElementsAre(HasSubstr("policy.toml:2:20: error: '*'")));
  EXPECT_THAT(of_rule("name = 'é'\nfrom = [\"a=é\", \"b=é*é\"]\nto='a'\n"),
              ElementsAre(HasSubstr("policy.toml:3:22: error: '*'")))
      << "bytes, not characters";
  EXPECT_THAT(of_rule("from = \"a\\u003dw*b\"\nto='a'\n"),
              ElementsAre(HasSubstr("policy.toml:2:8: error: '*'")))
      << "with escapes: the start of the string";
  EXPECT_THAT(of_rule("from = \"\"\"\na=w*b\"\"\"\nto='a'\n"),
              ElementsAre(HasSubstr("policy.toml:2:8: error: '*'")))
      << "with several lines: the start of the string";
}

TEST(Diagnostics, AByteOrderMarkIsInNoColumn) {
  const std::string mark = "\xEF\xBB\xBF";
  EXPECT_THAT(texts(parse_policy(mark + "[default]\n[[alow]]\n")),
              ElementsAre(HasSubstr("policy.toml:1:2: error: unknown key 'default'"),
                          HasSubstr("policy.toml:2:3: error: unknown key 'alow'")));
  EXPECT_THAT(texts(parse_policy(mark + "allow = [{ from = 'app=w*b', to = 'a' }]\n")),
              ElementsAre(HasSubstr("policy.toml:1:25: error: '*'")));
  EXPECT_THAT(texts(parse_policy(mark + "[defaults\n")),
              ElementsAre(HasSubstr("policy.toml:1:10: error: syntax error while parsing")));
  std::string deep = "a";
  for (int i = 0; i < 17; ++i) {
    deep += ".a";
  }
  EXPECT_THAT(texts(parse_policy(mark + deep + " = 1\n")),
              ElementsAre(HasSubstr("policy.toml:1:34: error: this key has too many dots")));
}

TEST(Diagnostics, Entities) {
  EXPECT_THAT(
      of_rule(
          "from = '@corp-dsn'\nto = '*'\n[[network]]\nname = 'corp-dns'\ncidrs = ['10.0.0.53']\n"),
      ElementsAre(
          "policy.toml:2:9: error: unknown network '@corp-dsn'; did you mean '@corp-dns'?"));
  EXPECT_THAT(of_rule("from = '@Host'\nto = '@mirror'\n"),
              ElementsAre("policy.toml:2:9: error: unknown network '@Host'; did you mean '@host'?",
                          "policy.toml:3:7: error: unknown network '@mirror'; define it: "
                          "[[network]] name = \"mirror\""));
  EXPECT_THAT(
      of_rule("from = '@host, app=web'\nto = 'app=web, @host'\n"),
      ElementsAre(
          "policy.toml:2:9: error: an entity must be a string of its own, not part of '@host, "
          "app=web'; write several peers as a list: [\"@host\", \"app=web\"]",
          "policy.toml:3:16: error: '@host' is an entity, not a label; write "
          "an entity as a separate string: from = [\"app=web\", \"@host\"]"));
  EXPECT_THAT(
      of_rule("from = '@host'\nto = ['@world', '@host']\n"),
      ElementsAre(
          "policy.toml:1:1: error: this rule can never match: neither side can be a workload; "
          "trireme only decides on flows of workloads; use a selector on one side"));
}

TEST(Diagnostics, Ports) {
  EXPECT_THAT(
      of_rule("from='*'\nto='*'\nports = ['80', 'tcp/0', 'tcp/65536', 'tcp/', 'udp/90-80', "
              "'udp/1-', 'icmp/8', 'TCP/80', 'sctp/1', "
              "'tcp/80-90-95', 'tcp/ 80', 'tcp:80', '']\n"),
      ElementsAre(
          "policy.toml:4:11: error: unknown protocol in '80'; add the protocol: \"tcp/80\"",
          "policy.toml:4:21: error: invalid port in 'tcp/0'; ports run from 1 to 65535: tcp/80 or "
          "udp/8000-8010",
          "policy.toml:4:30: error: invalid port in 'tcp/65536'; ports run from 1 to 65535: tcp/80 "
          "or "
          "udp/8000-8010",
          "policy.toml:4:43: error: invalid port in 'tcp/'; ports run from 1 to 65535: tcp/80 or "
          "udp/8000-8010",
          "policy.toml:4:51: error: port range 'udp/90-80' is reversed; did you mean udp/80-90?",
          "policy.toml:4:66: error: invalid port in 'udp/1-'; ports run from 1 to 65535: tcp/80 or "
          "udp/8000-8010",
          "policy.toml:4:74: error: icmp has no ports; write \"icmp\"",
          "policy.toml:4:80: error: unknown protocol in 'TCP/80'; did you mean 'tcp/80'?",
          "policy.toml:4:90: error: unknown protocol in 'sctp/1'; write tcp/80, udp/8000-8010, "
          "tcp, udp, icmp or icmpv6",
          "policy.toml:4:107: error: invalid port in 'tcp/80-90-95'; ports run from 1 to 65535: "
          "tcp/80 "
          "or udp/8000-8010",
          "policy.toml:4:120: error: invalid port in 'tcp/ 80'; ports run from 1 to 65535: tcp/80 "
          "or "
          "udp/8000-8010",
          "policy.toml:4:127: error: unknown protocol in 'tcp:80'; did you mean 'tcp/80'?",
          "policy.toml:4:137: error: unknown protocol in ''; write tcp/80, udp/8000-8010, tcp, "
          "udp, icmp or icmpv6"));
  EXPECT_THAT(of_rule("from='*'\nto='*'\nports = []\n"),
              ElementsAre("policy.toml:4:9: error: 'ports' is an empty list, which matches "
                          "nothing; remove it to match every port"));
}

// lessons.md: the ports parser used the protocol of one item for the next.
TEST(Diagnostics, EachPortSaysItsOwnProtocol) {
  EXPECT_THAT(of_rule("from='*'\nto='*'\nports = ['udp/53', '54']\n"), SizeIs(1));
}

TEST(Diagnostics, Networks) {
  EXPECT_THAT(
      texts(parse_policy(
          "[[network]]\nname = 'a'\ncidrs = ['10.0.0.5/8', 'fd00::/129', 'example.org']\n")),
      ElementsAre(
          "policy.toml:3:11: error: '10.0.0.5/8' has bits set beyond its prefix length; "
          "did you mean 10.0.0.0/8 or 10.0.0.5/32?",
          "policy.toml:3:25: error: invalid prefix length '129'; use a number from 0 to 128",
          "policy.toml:3:39: error: invalid IP address 'example.org'; write 192.0.2.1 or "
          "2001:db8::1; DNS names go into `names`"));
  EXPECT_THAT(
      texts(parse_policy("[[network]]\nname = 'World'\ncidrs = ['10.0.0.0/8']\n[[network]]\nname = "
                         "'@a'\ncidrs = ['10.0.0.0/8']\n")),
      ElementsAre("policy.toml:2:8: error: network name 'World' is reserved for @world; choose "
                  "another name",
                  "policy.toml:5:8: error: network name '@a' starts with '@'; omit the '@' here; "
                  "only rules use it"));
  EXPECT_THAT(
      texts(parse_policy("[[network]]\nname = 'a b'\ncidrs = ['10.0.0.0/8']\n[[network]]\ncidrs = "
                         "[]\n[[network]]\nname=''\n")),
      ElementsAre(
          HasSubstr("policy.toml:2:8: error: network name 'a b' contains an invalid character"),
          HasSubstr("policy.toml:4:1: error: this network has no 'name'"),
          HasSubstr("policy.toml:5:9: error: 'cidrs' is an empty list"),
          HasSubstr("policy.toml:6:1: error: this network has no addresses"),
          HasSubstr("policy.toml:7:6: error: 'name' in [[network]] is empty")));
  EXPECT_THAT(
      texts(parse_policy(
          "[[network]]\nname='a'\nnames = ['10.0.0.1', 'a..b', '*.*.x', 'http://x', '-', '" +
          std::string(64, 'x') + "']\n")),
      ElementsAre(HasSubstr(":3:10: error: '10.0.0.1' is an address, not a name; move it to cidrs"),
                  HasSubstr("invalid DNS name 'a..b'"), HasSubstr("invalid DNS name '*.*.x'"),
                  HasSubstr("invalid DNS name 'http://x'"), HasSubstr("invalid DNS name '-'"),
                  HasSubstr("invalid DNS name 'xxx")));
}

TEST(Diagnostics, NamesThatStandTwiceNameBothPlaces) {
  const std::string rule = "[[allow]]\nname = 'a'\nfrom = '*'\nto = '*'\n";
  const Configuration configuration = parse(
      {{"policy.toml", rule + "[[network]]\nname='Dns'\ncidrs=['10.0.0.1']\n"},
       {"policy.d/1.toml",
        "[[network]]\nname='dns'\ncidrs=['10.0.0.2']\n[[deny]]\nname = 'a'\nfrom='*'\nto='*'\n"}},
      {});
  EXPECT_THAT(
      texts(configuration),
      ElementsAre(
          "policy.d/1.toml:2:6: error: network name 'dns' is already used at "
          "policy.toml:6:6; use another name, or one network with several cidrs; case is ignored",
          "policy.d/1.toml:5:8: error: rule name 'a' is already used at policy.toml:2:8; "
          "log lines name rules, so each needs its own name"));
}

TEST(Diagnostics, KeysInTwoFilesNameBothPlaces) {
  const auto policy = parse({{"policy.toml", "[defaults]\nmode='audit'\nrefuse='drop'\n"},
                             {"policy.d/1.toml", "[defaults]\nrefuse='reject'\nmode='audit'\n"},
                             {"policy.d/2.toml", "[defaults]\nmode='enforce'\n"}},
                            {});
  EXPECT_THAT(texts(policy),
              ElementsAre("policy.d/1.toml:2:1: error: 'refuse' in [defaults] is already set at "
                          "policy.toml:3:1; keep one: precedence by file name is not supported",
                          "policy.d/1.toml:3:1: error: 'mode' in [defaults] is already set at "
                          "policy.toml:2:1; keep one: precedence by file name is not supported",
                          HasSubstr("policy.d/2.toml:2:1: error: 'mode' in [defaults] is already "
                                    "set at policy.toml:2:1;")));
  const std::string all =
      "[host]\nname='a'\nlabels={zone='eu'}\n[docker]\ncontainers='all'\n[trust]\n"
      "psk_file='psk'\n[metrics]\nlisten='127.0.0.1:9464'\n";
  const auto identity = parse({}, {{"identity.toml", all}, {"identity.d/1.toml", all}});
  EXPECT_THAT(
      texts(identity),
      ElementsAre(
          HasSubstr("identity.d/1.toml:2:1: error: 'name' in [host] is already set at "
                    "identity.toml:2:1"),
          HasSubstr("identity.d/1.toml:3:1: error: 'labels' in [host] is already set at "),
          HasSubstr("identity.d/1.toml:5:1: error: 'containers' in [docker] is already set at "),
          HasSubstr("identity.d/1.toml:7:1: error: 'psk_file' in [trust] is already set at "),
          HasSubstr("identity.d/1.toml:9:1: error: 'listen' in [metrics] is already set at ")));
  EXPECT_EQ(parse({}, {{"identity.toml", "[host]\nname = 1\n"},
                       {"identity.d/1.toml", "[host]\nname = 'b'\n"}})
                .diagnostics.size(),
            2U)
      << "an invalid value is set as well";
}

TEST(Diagnostics, UnknownKeysOfASectionAreReportedInEachFile) {
  EXPECT_THAT(
      texts(parse({{"policy.toml", "[defaults]\nmod='audit'\n"},
                   {"policy.d/1.toml", "[defaults]\nmode='audit'\nmod='audit'\n"}},
                  {})),
      ElementsAre(
          "policy.toml:2:1: error: unknown key 'mod' in [defaults]; did you mean 'mode'?",
          "policy.d/1.toml:3:1: error: unknown key 'mod' in [defaults]; did you mean 'mode'?"));
  EXPECT_THAT(
      texts(parse({{"policy.toml", "[defaults]\n"}, {"policy.d/1.toml", "defaults=1\n"}}, {})),
      ElementsAre(HasSubstr("policy.d/1.toml:1:10: error: 'defaults' must be a table")));
}

TEST(Diagnostics, SyntaxErrorsLeaveTheOtherFilesChecked) {
  const Configuration configuration =
      parse({{"policy.toml", "[defaults\n"}, {"policy.d/1.toml", "[defaults]\nmod = 'audit'\n"}},
            {{"identity.toml", "[host]\nname = web\n"}, {"identity.d/1.toml", "[hots]\n"}});
  EXPECT_THAT(
      texts(configuration),
      ElementsAre(
          HasSubstr(
              "policy.toml:1:10: error: syntax error while parsing table header: expected ']'"),
          "policy.d/1.toml:2:1: error: unknown key 'mod' in [defaults]; did you mean 'mode'?",
          "identity.toml:2:8: error: syntax error while parsing value: could not determine value "
          "type; put a string in quotes: \"…\"",
          "identity.d/1.toml:1:2: error: unknown key 'hots'; did you mean 'host'?"));
  EXPECT_THAT(
      texts(parse_policy("[defaults]\nmode='audit'\nmode='audit'\n")),
      ElementsAre(HasSubstr("policy.toml:3:6: error: syntax error while parsing key-value pair: "
                            "cannot redefine existing string 'mode'; it is defined twice")));
  EXPECT_THAT(texts(parse_policy("# \xff\n")),
              ElementsAre(HasSubstr("policy.toml:1:2: error: syntax error: encountered")));
}

// lessons.md: a malformed file caused a crash. Here, one run reports the errors of every part.
TEST(Diagnostics, OneRunFindsEverything) {
  const Configuration configuration =
      parse({{"policy.toml",
              "[defaults]\nmode='x'\n[[allow]]\nfrom=''\nto='@x'\nports=['x']\nx=1\n[[network]]"
              "\nname='host'\ncidrs=['x']\n"}},
            {{"identity.toml",
              "[host]\nlabels={a=1}\n[[unit]]\nname='x'\n[[launch]]\nlabels=['x']\n[x]\n"}});
  EXPECT_THAT(configuration.diagnostics, SizeIs(13));
  EXPECT_TRUE(std::all_of(configuration.diagnostics.begin(), configuration.diagnostics.end(),
                          [](const Diagnostic& d) {
                            return d.severity == Diagnostic::Severity::error && d.where.line > 0 &&
                                   d.where.column > 0 && !d.message.empty();
                          }));
}

TEST(Diagnostics, ControlCharactersNeverReachTheLog) {
  EXPECT_THAT(
      of_rule("name = \"a\\u001b[31m\"\nfrom='*'\nto='*'\n"),
      ElementsAre("policy.toml:2:8: error: 'name' in [[allow]] contains a control character"));
  EXPECT_THAT(texts(parse_policy("\"a\\u001b[31m\\u009b\" = 1\n")),
              ElementsAre(HasSubstr("policy.toml:1:1: error: unknown key 'a\\x1b[31m\\xc2\\x9b'")));
  EXPECT_THAT(texts(parse_policy("\"a\\u202e\" = 1\n")),
              ElementsAre(HasSubstr("policy.toml:1:1: error: unknown key 'a\\xe2\\x80\\xae'")))
      << "it would change the direction of the line";
}

}  // namespace
}  // namespace trireme::config
