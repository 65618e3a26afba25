// SPDX-License-Identifier: Apache-2.0
// What a load warns of beyond errors, and what lint finds in files.
#include <gmock/gmock.h>

#include "config_support.hpp"
#include "trireme/config/lint.hpp"

namespace trireme::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> linted(const Configuration& configuration,
                                const std::vector<policy::LabelSet>& present = {}) {
  std::vector<std::string> lines;
  for (const Diagnostic& diagnostic : lint(configuration, present)) {
    lines.push_back(diagnostic.kind + " " + diagnostic.text());
  }
  return lines;
}

TEST(LoadWarnings, SelectorsThatLookLikeSomethingElse) {
  const Configuration configuration = parse_policy(
      "[[allow]]\nfrom = 'app=web'\nto = '10.0.0.0/8'\n[[allow]]\nfrom = 'web'\nto = "
      "['app=db', 'example.com']\n");
  EXPECT_TRUE(configuration.valid());
  EXPECT_THAT(
      texts(configuration),
      ElementsAre(
          "policy.toml:1:1: warning: '10.0.0.0/8' in 'to' is read as a label key, not as an "
          "address; define a [[network]] with name = \"NAME\" and cidrs = [\"10.0.0.0/8\"], and "
          "write to = \"@NAME\"",
          "policy.toml:4:1: warning: 'web' in 'from' is read as a label key, but only label values "
          "are called that; did you mean 'app=web'?",
          HasSubstr("policy.toml:4:1: warning: 'example.com' in 'to' is read as a label key")));
}

TEST(LoadWarnings, RulesWithoutEffectAndWideNames) {
  EXPECT_THAT(texts(parse_policy("[[allow]]\nname = 'web to db'\nfrom = '*'\nto = 'app=db'\n"
                                 "[[allow]]\nfrom = 'app=web'\nto = 'app=db'\nports = 'tcp/80'\n"
                                 "[[allow]]\nfrom = '*'\nto = 'app=db'\n")),
              ElementsAre(HasSubstr("policy.toml:1:1: warning: this rule is wider than its name"),
                          HasSubstr("policy.toml:5:1: warning: this rule has no effect: allow 'web "
                                    "to db' (policy.toml:1:1) includes it"),
                          HasSubstr("policy.toml:9:1: warning: this rule repeats allow 'web to db' "
                                    "(policy.toml:1:1)")));
}

TEST(LoadWarnings, NoneBesideErrors) {
  EXPECT_THAT(
      texts(parse_policy("[[allow]]\nfrom='*'\nto='*'\n[[allow]]\nfrom='*'\nto='*'\nx=1\n")),
      ElementsAre(HasSubstr("unknown key 'x'")));
}

// The labels of identity.toml exist, although nobody has them yet.
TEST(LoadWarnings, LabelsOfIdentityFilesAreKnown) {
  const std::vector<Source> policy = {{"policy.toml", "[[deny]]\nfrom = 'web'\nto = '*'\n"}};
  EXPECT_THAT(texts(parse(policy, {})), IsEmpty());
  for (const char* identity :
       {"[[unit]]\nname='a.service'\nlabels={app='web'}\n",
        "[[launch]]\nuser='deploy'\nlabels=['app=web']\n", "[host]\nlabels={app='web'}\n"}) {
    EXPECT_THAT(texts(parse(policy, {{"identity.toml", identity}})),
                ElementsAre(HasSubstr("did you mean 'app=web'?")))
        << identity;
    EXPECT_THAT(texts(parse(policy, {{"identity.toml", std::string(identity) +
                                                           "[[unit]]\nname='b.service'\nlabels={"
                                                           "web='yes'}\n"}})),
                IsEmpty())
        << identity;
  }
}

// The source of label_from is no value of the label, and a key that containers have is no mistake.
TEST(LoadWarnings, KeysOfContainersAreKnown) {
  const auto of = [](const std::string& policy, const std::string& docker) {
    return texts(parse({{"policy.toml", policy}}, {{"identity.toml", "[docker]\n" + docker}}));
  };
  const std::string made = "label_from = { team = 'com.docker.compose.project' }\n";
  EXPECT_THAT(of("[[deny]]\nfrom = 'com.docker.compose.project'\nto = '*'\n", made), IsEmpty());
  const std::string team = "[[deny]]\nfrom = 'team'\nto = 'app=team'\n";
  EXPECT_THAT(of(team, ""), ElementsAre(HasSubstr("did you mean 'app=team'?")));
  EXPECT_THAT(of(team, made), IsEmpty());
  EXPECT_THAT(of(team, "labels = ['team']\n"), IsEmpty());
  EXPECT_THAT(of(team, "labels = ['te*']\n"), testing::SizeIs(1));
}

TEST(Lint, FindsMoreThanALoad) {
  const Configuration configuration = parse_policy(
      "[[network]]\nname = 'unused'\ncidrs = ['10.0.0.0/8']\n[[allow]]\nfrom = 'app=web'\nto = "
      "'10.1.0.0/16'\nports = ['tcp/1-65535', 'udp/53-53', 'tcp/080', 'udp/54']\n");
  EXPECT_THAT(configuration.diagnostics, testing::SizeIs(1));
  EXPECT_THAT(linted(configuration),
              ElementsAre(HasSubstr("network policy.toml:1:1: warning: no rule uses the network"),
                          HasSubstr("selector policy.toml:4:1: warning: '10.1.0.0/16'"),
                          HasSubstr("ports policy.toml:4:1: warning: 'ports' lists tcp/80 although "
                                    "tcp/1-65535 includes it"),
                          "ports policy.toml:7:10: warning: 'tcp/1-65535' is another form of "
                          "'tcp'; write \"tcp\"",
                          HasSubstr("ports policy.toml:7:25: warning: 'udp/53-53' is another form "
                                    "of 'udp/53'"),
                          HasSubstr("ports policy.toml:7:38: warning: 'tcp/080' is another form of "
                                    "'tcp/80'")));
}

TEST(Lint, NobodyPresentDecides) {
  const Configuration configuration = parse_policy("[[deny]]\nfrom = 'web'\nto = '*'\n");
  EXPECT_THAT(linted(configuration), IsEmpty());
  policy::LabelSet labels;
  ASSERT_TRUE(labels.set("app", "web"));
  EXPECT_THAT(linted(configuration, {labels}),
              ElementsAre(HasSubstr("selector policy.toml:1:1: warning: 'web' in 'from' is read")));
  ASSERT_TRUE(labels.set("web", "1"));
  EXPECT_THAT(linted(configuration, {labels}), IsEmpty());
}

TEST(Lint, KeepsOtherDiagnostics) {
  const std::string denied =
      "[[network]]\nname='m'\nnames=['deb.example.org']\n[[deny]]\nfrom='*'\nto='@m'\n";
  EXPECT_THAT(linted(parse_policy(denied)),
              ElementsAre(HasSubstr(" policy.toml:4:1: warning: this deny rule only matches")));
  EXPECT_THAT(
      linted(parse_policy("[[allow]]\nfrom='*'\nto='*'\nports=['tcp:80', '80/udp']\n")),
      ElementsAre(HasSubstr(" policy.toml:4:9: error: unknown protocol in 'tcp:80'; did "
                            "you mean 'tcp/80'?"),
                  HasSubstr("error: unknown protocol in '80/udp'; did you mean 'udp/80'?")));
}

}  // namespace
}  // namespace trireme::config
