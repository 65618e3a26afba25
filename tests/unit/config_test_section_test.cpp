// SPDX-License-Identifier: Apache-2.0
// [[test]]: a policy that fails one of its tests is invalid.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "config_support.hpp"
#include "trireme/config/peer.hpp"

namespace trireme::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kRules = R"([[network]]
name = "ten"
cidrs = ["10.0.0.0/8"]
[[network]]
name = "lab"
cidrs = ["10.1.0.0/16"]
[[allow]]
name = "web to db"
from = "app=web"
to = "app=db"
ports = ["tcp/5432"]
[[allow]]
from = "app=web"
to = "@ten"
[[deny]]
name = "no lab"
from = "*"
to = "@lab"
)";

std::vector<std::string> run(const std::string& test) {
  return texts(parse_policy(kRules + ("[[test]]\n" + test)));
}

TEST(PolicyTest, PassesWhereThePolicyAgrees) {
  EXPECT_THAT(run("from={app='web'}\nto={app='db'}\nport='tcp/5432'\nexpect='allow'\n"), IsEmpty());
  EXPECT_THAT(run("from='app=web'\nto='app=db, env=prod'\nport='tcp/5432'\nexpect='allow'\n"),
              IsEmpty());
  EXPECT_THAT(run("from={app='web'}\nto={app='db'}\nport='tcp/5433'\nexpect='deny'\n"), IsEmpty());
  EXPECT_THAT(run("from={app='db'}\nto={app='web'}\nexpect='deny'\n"), IsEmpty());
  EXPECT_THAT(run("from='@host'\nto={app='db'}\nexpect='deny'\n"), IsEmpty());
  EXPECT_THAT(run("from={app='web'}\nto='10.2.0.1'\nexpect='allow'\n"), IsEmpty());
  EXPECT_THAT(run("from={app='web'}\nto='192.0.2.1'\nexpect='deny'\n"), IsEmpty());
  EXPECT_THAT(run("from={}\nto={}\nexpect='deny'\n"), IsEmpty())
      << "the baseline does not match workloads without labels";
}

TEST(PolicyTest, LoopbackAddressesAreThisHosts) {
  const std::string rules =
      "[[network]]\nname='resolver'\ncidrs=['127.0.0.53/32']\n"
      "[[network]]\nname='all'\ncidrs=['0.0.0.0/0', '::/0']\n"
      "[[allow]]\nfrom='*'\nto='@host'\nports=['udp/53']\n"
      "[[allow]]\nfrom='@all'\nto='app=web'\nports=['tcp/443']\n";
  const auto failed = [&](const std::string& test) {
    return texts(parse_policy(rules + "[[test]]\n" + test)).size();
  };
  for (const char* to : {"127.0.0.53", "::1", "@resolver", "@host"}) {
    const std::string test = std::string("from='app=web'\nto='") + to + "'\nport='udp/53'\n";
    EXPECT_EQ(failed(test + "expect='allow'\n"), 0U) << to;
    EXPECT_EQ(failed(test + "expect='deny'\n"), 1U) << to;
  }
  EXPECT_EQ(failed("from='@host'\nto='app=web'\nport='tcp/443'\nexpect='deny'\n"), 1U)
      << "the loopback addresses are in a network";
  EXPECT_EQ(failed("from='192.0.2.1'\nto='app=web'\nport='udp/53'\nexpect='deny'\n"), 0U);
}

TEST(PolicyTest, TheSidesAreTwoWorkloads) {
  EXPECT_THAT(run("from={app='x'}\nto={app='x'}\nexpect='allow'\n"), IsEmpty());
  EXPECT_THAT(
      texts(parse_policy(
          "[defaults]\nbaseline='none'\n[[test]]\nfrom={app='x'}\nto={app='x'}\nexpect='deny'\n")),
      IsEmpty());
}

TEST(PolicyTest, AFailureSaysWhatDecidedAndWhere) {
  EXPECT_THAT(run("from={app='web'}\nto={app='db'}\nport='tcp/5432'\nexpect='deny'\n"),
              ElementsAre("policy.toml:19:1: error: test failed: expected deny, but tcp/5432 from "
                          "app=web to app=db is allowed by "
                          "allow 'web to db' (policy.toml:7:1)"));
  EXPECT_THAT(run("from={app='api'}\nto={app='db'}\nport='tcp/5432'\nexpect='allow'\n"),
              ElementsAre("policy.toml:19:1: error: test failed: expected allow, but tcp/5432 from "
                          "app=api to app=db is denied: no rule allows it"));
  EXPECT_THAT(run("from={app='web'}\nto='10.1.0.1'\nport='icmp'\nexpect='allow'\n"),
              ElementsAre("policy.toml:19:1: error: test failed: expected allow, but icmp from "
                          "app=web to 10.1.0.1 is denied by "
                          "deny 'no lab' (policy.toml:15:1)"));
  EXPECT_THAT(run("from={app='x'}\nto={app='x'}\nport='udp/1'\nexpect='deny'\n"),
              ElementsAre(HasSubstr("udp/1 from app=x to app=x is allowed by the baseline")));
}

TEST(PolicyTest, WithoutAPortEveryPortMustAnswerTheSame) {
  EXPECT_THAT(run("from={app='web'}\nto={app='db'}\nexpect='allow'\n"),
              ElementsAre(HasSubstr("expected allow, but tcp/1 from app=web to app=db is denied: "
                                    "no rule allows it; a test without 'port' covers")));
  EXPECT_THAT(run("from={app='web'}\nto={app='db'}\nexpect='deny'\n"),
              ElementsAre(HasSubstr("tcp/5432 from app=web to app=db is allowed by")));
  EXPECT_THAT(run("from={app='web'}\nto={app='db'}\nport='tcp/5400-5500'\nexpect='deny'\n"),
              ElementsAre(HasSubstr("tcp/5432")));
  EXPECT_THAT(run("from={app='web'}\nto={app='db'}\nport='tcp/5432-5433'\nexpect='allow'\n"),
              ElementsAre(HasSubstr("tcp/5433")));
  EXPECT_THAT(run("from={app='web'}\nto={app='db'}\nport='tcp/5433-65535'\nexpect='deny'\n"),
              IsEmpty());
}

TEST(PolicyTest, ANetworkIsAskedAboutWhereverAnotherOneBeginsInIt) {
  EXPECT_THAT(run("from={app='web'}\nto='@ten'\nexpect='allow'\n"),
              ElementsAre(HasSubstr("to @ten (10.1.0.0) is denied by deny 'no lab'")));
  EXPECT_THAT(run("from={app='web'}\nto='@lab'\nexpect='deny'\n"), IsEmpty());
}

TEST(PolicyTest, ATrialRunDoesNotTurnTestsGreen) {
  EXPECT_THAT(
      texts(parse_policy(
          "[defaults]\nmode='audit'\n[[test]]\nfrom={app='a'}\nto={app='b'}\nexpect='deny'\n")),
      IsEmpty());
  EXPECT_THAT(texts(parse_policy("[[allow]]\nfrom='app=a'\nto='app=b'\nmode='audit'\n[[test]]"
                                 "\nfrom={app='a'}\nto={app='b'}\nexpect='allow'\n")),
              ElementsAre(HasSubstr("is denied, because allow (policy.toml:1:1) is only audited")));
  EXPECT_THAT(texts(parse_policy("[[deny]]\nfrom='app=a'\nto='app=a'\nmode='audit'\n[[test]]\nfrom="
                                 "{app='a'}\nto={app='a'}\nexpect='deny'\n")),
              ElementsAre(HasSubstr("is allowed, because deny (policy.toml:1:1) is only audited")));
}

TEST(PolicyTest, IsNotRunOnAPolicyWithErrors) {
  EXPECT_THAT(run("from={app='db'}\nto={app='web'}\nexpect='allow'\n[[allow]]\nfrom='app=db'\nto='"
                  "app='b'\n"),
              ElementsAre(HasSubstr("syntax error")));
  EXPECT_THAT(
      run("from={app='db'}\nto={app='web'}\nexpect='allow'\n[[allow]]\nfrom='app=db'\nto=''\n"),
      ElementsAre(HasSubstr("empty selector")));
}

TEST(PolicyTest, IsCheckedItself) {
  EXPECT_THAT(
      run("from={app='web'}\n"),
      ElementsAre("policy.toml:19:1: error: this test has no 'to'; add to = { app = \"web\" }",
                  "policy.toml:19:1: error: this test has no 'expect'; add expect = \"allow\" or "
                  "expect = \"deny\""));
  EXPECT_THAT(run("from='@host'\nto='@world'\nexpect='deny'\n"),
              ElementsAre("policy.toml:19:1: error: neither side of this test is a workload; give "
                          "one side labels: { app = \"web\" }"));
  EXPECT_THAT(
      run("from='@hots'\nto={}\nexpect='deny'\n"),
      ElementsAre("policy.toml:20:6: error: unknown network '@hots'; did you mean '@host'?"));
  EXPECT_THAT(run("from='app'\nto=7\nexpect='maybe'\n"),
              ElementsAre("policy.toml:20:6: error: label 'app' has no value; write key=value",
                          "policy.toml:21:4: error: 'to' in [[test]] must be a string, not an "
                          "integer; put it in quotes",
                          "policy.toml:22:8: error: unknown value 'maybe' for 'expect' in "
                          "[[test]]; use one of: allow, deny"));
  EXPECT_THAT(run("from='app=a,app=b'\nto={}\nexpect='deny'\n"),
              ElementsAre("policy.toml:20:6: error: label 'app' is given twice"));
  for (const char* selector : {"app=web*", "app!=web", "app in (web, db)", "app,env", "*"}) {
    EXPECT_THAT(
        run(fmt::format("from='{}'\nto={{}}\nexpect='deny'\n", selector)),
        ElementsAre(fmt::format("policy.toml:20:6: error: '{}' is a selector, not the labels "
                                "of one workload; write all labels of the workload: "
                                "app=web,env=prod",
                                selector)));
  }
  EXPECT_THAT(run("from={app=1}\nto={}\nport='tcp/0'\nexpect='deny'\n"),
              ElementsAre("policy.toml:20:11: error: label 'app' must be a string, not an integer; "
                          "put it in quotes",
                          "policy.toml:22:11: error: invalid port in 'tcp/0'; ports run from 1 to "
                          "65535: tcp/80 or udp/8000-8010"));
}

TEST(TestPeer, TextIsTheInverseOfParsing) {
  const policy::Policy policy = parse_policy(kRules).policy;
  for (const char* written :
       {"app=web,env=prod", "@host", "@world", "@lab", "192.0.2.1", "2001:db8::1"}) {
    const auto peer = parse_test_peer(written, policy);
    ASSERT_TRUE(peer) << written << ": " << peer.error().text();
    EXPECT_EQ(text(policy, *peer), written);
    EXPECT_FALSE(endpoints(policy, policy::NameIndex(policy), *peer, 1).list.empty());
  }
  EXPECT_FALSE(parse_test_peer("", policy));
  EXPECT_FALSE(parse_test_peer("@nobody", policy));
}

TEST(PolicyTest, ANetworkOfNamesIsAskedForItsNames) {
  const std::string networks =
      "[[network]]\nname='mirror'\nnames=['deb.example.org','a.example.net']\n"
      "[[network]]\nname='bad'\nnames=['*.example.net']\n[[allow]]\nfrom='app=web'\nto='@mirror'\n";
  const std::string test =
      "[[test]]\nfrom={app='web'}\nto='@mirror'\nport='tcp/80'\nexpect='allow'\n";
  EXPECT_TRUE(parse_policy(networks + test).valid());
  EXPECT_FALSE(parse_policy(networks + "[[deny]]\nfrom='*'\nto='@bad'\n" + test).valid())
      << "one of its names is in both networks";
}

TEST(PolicyTest, AHugeNetworkCostsNoMoreThanItsKinds) {
  std::string cidrs;
  for (int i = 0; i < 10'000; i++) {
    cidrs += "'10." + std::to_string(i / 250) + "." + std::to_string(i % 250) + ".1',";
  }
  const policy::Policy policy = parse_policy("[[network]]\nname='list'\ncidrs=[" + cidrs +
                                             "]\n[[network]]\nname='part'\ncidrs=['10.3.0.0/16']\n")
                                    .policy;
  const auto peer = parse_test_peer("@list", policy);
  ASSERT_TRUE(peer);
  EXPECT_EQ(endpoints(policy, policy::NameIndex(policy), *peer, 1).list.size(), 2U)
      << "one address inside of the other network, and one outside";
}

}  // namespace
}  // namespace trireme::config
