// SPDX-License-Identifier: Apache-2.0
// Suggestions, written as TOML and parsed again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "trireme/config/loader.hpp"
#include "trireme/policy/suggest.hpp"

namespace trireme::config {
namespace {

using policy::LabelSet;
using policy::SeenEnd;
using policy::SeenFlow;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

SeenEnd labeled(const std::string& text) {
  SeenEnd end;
  end.labels.emplace();
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    const auto label = policy::parse_label(text.substr(at, comma - at));
    EXPECT_TRUE(label && end.labels->set(label->key, label->value)) << text;
    at = comma + 1;
  }
  return end;
}

SeenEnd elsewhere(const std::string& address) {
  SeenEnd end;
  end.address = *policy::Address::parse(address);
  return end;
}

SeenEnd host(const std::string& address) {
  SeenEnd end = elsewhere(address);
  end.host = true;
  return end;
}

SeenFlow flow(SeenEnd from, SeenEnd to, std::uint16_t port, std::uint8_t protocol = 6) {
  SeenFlow made;
  made.from = std::move(from);
  made.to = std::move(to);
  made.protocol = protocol;
  made.port = port;
  made.verdict = policy::Verdict::audit;
  return made;
}

bool passes(const policy::Policy& policy, const SeenFlow& flow) {
  return policy::evaluate(policy, flow.from.endpoint(), flow.to.endpoint(), flow.protocol,
                          flow.port)
             .verdict != policy::Verdict::deny;
}

/// Parses the policy and the suggestion as two files.
policy::Policy both(const std::string& policy, const policy::Suggestion& suggestion) {
  auto configuration =
      parse({{"policy.toml", policy}, {"policy.d/suggested.toml", suggestion.toml("test")}}, {});
  for (const Diagnostic& diagnostic : configuration.diagnostics) {
    ADD_FAILURE() << diagnostic.text() << "\n" << suggestion.toml("test");
  }
  return std::move(configuration.policy);
}

policy::Policy read(const std::string& text) {
  auto configuration = parse({{"policy.toml", text}}, {});
  EXPECT_TRUE(configuration.valid());
  return std::move(configuration.policy);
}

TEST(Suggest, PairsThatNeedTheSameBecomeOneRule) {
  const std::vector<SeenFlow> flows = {flow(labeled("app=web"), labeled("app=db"), 5432),
                                       flow(labeled("app=api"), labeled("app=db"), 5432),
                                       flow(labeled("app=web"), labeled("app=db"), 5433),
                                       flow(labeled("app=api"), labeled("app=db"), 5433),
                                       flow(labeled("app=web"), labeled("app=web"), 80)};
  const auto made = suggest(read(""), flows, {});
  ASSERT_THAT(made.rules, SizeIs(1));
  EXPECT_THAT(made.rules[0].from, ElementsAre("app=api", "app=web"));
  EXPECT_THAT(made.rules[0].to, ElementsAre("app=db"));
  EXPECT_EQ(made.needed, 4U);
  EXPECT_EQ(made.allowed, 1U);
  const auto policy = both("", made);
  for (const SeenFlow& each : flows) {
    EXPECT_TRUE(passes(policy, each));
  }
  EXPECT_FALSE(passes(policy, flow(labeled("app=web"), labeled("app=db"), 5434)));
  EXPECT_FALSE(passes(policy, flow(labeled("app=db"), labeled("app=web"), 5432)));
}

TEST(Suggest, NameServersAndTheWayOutBecomeNetworks) {
  const std::vector<SeenFlow> flows = {flow(labeled("app=web"), elsewhere("10.0.0.53"), 53, 17),
                                       flow(labeled("app=web"), elsewhere("10.0.0.53"), 53),
                                       flow(labeled("app=web"), host("127.0.0.53"), 53, 17),
                                       flow(labeled("app=web"), elsewhere("192.0.2.2"), 443),
                                       flow(labeled("app=web"), elsewhere("192.0.2.3"), 443),
                                       flow(labeled("app=web"), host("127.0.0.1"), 25)};
  const auto made = suggest(read(""), flows, {});
  std::map<std::string, std::vector<policy::Prefix>> networks;
  for (const auto& network : made.networks) {
    networks[network.name] = network.cidrs;
  }
  EXPECT_THAT(networks["web"], ElementsAre(*policy::Prefix::parse("192.0.2.2/31")));
  EXPECT_TRUE(networks.contains("dns"));
  const auto policy = both("", made);
  for (const SeenFlow& each : flows) {
    EXPECT_TRUE(passes(policy, each)) << each.to.text();
  }
  EXPECT_FALSE(passes(policy, flow(labeled("app=web"), elsewhere("192.0.2.4"), 443)));
  EXPECT_FALSE(passes(policy, flow(labeled("app=web"), host("127.0.0.54"), 53, 17)));
}

TEST(Suggest, NamesOfNetworksDifferInMoreThanTheirCase) {
  const std::string policy = "[[network]]\nname = 'DNS'\ncidrs = ['192.0.2.0/24']\n";
  const auto made =
      suggest(read(policy), {flow(labeled("app=web"), elsewhere("10.0.0.53"), 53, 17)}, {});
  ASSERT_THAT(made.networks, SizeIs(1));
  EXPECT_EQ(made.networks[0].name, "dns-2");
  std::ignore = both(policy, made);
}

TEST(Suggest, AnswersOfAUdpServiceNeedNoRuleOfTheirOwn) {
  const std::vector<SeenFlow> flows = {flow(labeled("app=web"), elsewhere("10.0.0.53"), 53, 17),
                                       flow(elsewhere("10.0.0.53"), labeled("app=web"), 40438, 17),
                                       flow(elsewhere("10.0.0.54"), labeled("app=web"), 40438, 17)};
  const auto made = suggest(read(""), flows, {});
  ASSERT_THAT(made.rules, SizeIs(2));
  EXPECT_THAT(made.rules[0].from, ElementsAre("@clients"));
  EXPECT_THAT(made.networks, SizeIs(2));
  EXPECT_EQ(made.allowed, 1U);
}

TEST(Suggest, UsesTheNetworksThatAreThere) {
  const std::string text = "[[network]]\nname = \"dns\"\ncidrs = [\"10.0.0.0/24\"]\n";
  const auto made =
      suggest(read(text), {flow(labeled("app=web"), elsewhere("10.0.0.53"), 53, 17)}, {});
  EXPECT_THAT(made.networks, IsEmpty());
  ASSERT_THAT(made.rules, SizeIs(1));
  EXPECT_THAT(made.rules[0].to, ElementsAre("@dns"));
  (void)both(text, made);
}

TEST(Suggest, ANameThatIsTakenIsNotGivenAgain) {
  const std::string text = "[[network]]\nname = \"dns\"\ncidrs = [\"10.0.0.1\"]\n";
  const auto made =
      suggest(read(text), {flow(labeled("app=web"), elsewhere("10.0.0.53"), 53, 17)}, {});
  ASSERT_THAT(made.networks, SizeIs(1));
  EXPECT_EQ(made.networks[0].name, "dns-2");
  (void)both(text, made);
}

TEST(Suggest, AWiderSelectorCatchesNobodyElse) {
  std::vector<SeenFlow> flows;
  std::vector<LabelSet> present;
  for (int i = 0; i < 50; ++i) {
    flows.push_back(
        flow(labeled("app=web,instance=" + std::to_string(i)), labeled("app=db"), 5432));
  }
  const auto wide = suggest(read(""), flows, present);
  ASSERT_THAT(wide.rules, SizeIs(1));
  EXPECT_THAT(wide.rules[0].from, ElementsAre("app=web"));
  present.push_back(*labeled("app=web,instance=stranger").labels);
  const auto narrow = suggest(read(""), flows, present);
  ASSERT_THAT(narrow.rules, SizeIs(1));
  EXPECT_THAT(narrow.rules[0].from, SizeIs(50));
}

TEST(Suggest, SaysWhereASelectorCatchesMoreThanWasSeen) {
  const auto made = suggest(read(""), {flow(labeled("app=web"), labeled("app=db"), 5432)},
                            {*labeled("app=web,env=dev").labels});
  ASSERT_THAT(made.rules, SizeIs(1));
  EXPECT_THAT(made.rules[0].comments, ElementsAre(HasSubstr("from also matches app=web,env=dev")));
}

TEST(Suggest, WhatNoRuleCanAllowIsSaid) {
  const std::string text =
      "[[deny]]\nfrom = \"app=bad\"\nto = \"*\"\n[[allow]]\nfrom = \"app=web\"\nto = "
      "\"app=db\"\nmode = \"audit\"\n";
  SeenFlow nameless = flow(labeled("app=web"), labeled("app=web"), 80);
  nameless.from.labels.emplace();
  const auto made = suggest(read(text),
                            {flow(labeled("app=bad"), labeled("app=db"), 1),
                             flow(labeled("app=web"), labeled("app=db"), 1), nameless},
                            {});
  EXPECT_THAT(made.rules, IsEmpty());
  EXPECT_THAT(made.left_out, SizeIs(3));
  (void)both(text, made);
}

TEST(Suggest, LabelsAndNamesOfStrangersDoNoHarm) {
  SeenFlow hostile = flow(labeled("app=web"), labeled("app=db"), 80);
  EXPECT_TRUE(hostile.from.labels->set("note", "x\" ]\\ (a, b)=*"));
  EXPECT_TRUE(hostile.from.labels->set("odd!key", "y"));
  hostile.from.workload = "w\n[[allow]]\nfrom=\"*\"";
  const auto made = suggest(read(""), {hostile}, {});
  const auto policy = both("", made);
  EXPECT_TRUE(passes(policy, hostile));
  EXPECT_THAT(policy.rules, SizeIs(1));
}

TEST(Suggest, ManyClientsAreTheWorldAndManyPortsARange) {
  std::vector<SeenFlow> flows;
  for (int i = 0; i < 100; ++i) {
    flows.push_back(flow(elsewhere("203.0." + std::to_string(i) + ".9"), labeled("app=web"), 443));
    flows.push_back(
        flow(labeled("app=ftp"), labeled("app=web"), static_cast<std::uint16_t>(40000 + 2 * i)));
  }
  const auto made = suggest(read(""), flows, {});
  EXPECT_THAT(made.networks, IsEmpty());
  ASSERT_THAT(made.rules, SizeIs(2));
  EXPECT_THAT(made.rules[0].from, ElementsAre("@world"));
  EXPECT_THAT(made.rules[0].comments, ElementsAre(HasSubstr("100 addresses")));
  EXPECT_EQ(made.rules[1].ports, (std::vector<policy::PortRange>{{6, 40000, 40198}}));
  EXPECT_THAT(made.rules[1].comments, SizeIs(1));
}

/// The suggestion allows every flow that was seen, and no other pair of labels or port.
TEST(Suggest, AllowsWhatWasSeenAndNothingElse) {
  std::mt19937 random(7);
  const std::vector<std::string> apps = {"app=a", "app=b", "app=c", "app=d", "app=e"};
  for (int round = 0; round < 300; ++round) {
    std::set<std::tuple<std::size_t, std::size_t, std::uint16_t>> seen;
    std::vector<SeenFlow> flows;
    for (int i = 0; i < 12; ++i) {
      const auto from = random() % apps.size();
      const auto to = random() % apps.size();
      const auto port = static_cast<std::uint16_t>(80 + random() % 3);
      if (seen.emplace(from, to, port).second) {
        flows.push_back(flow(labeled(apps[from]), labeled(apps[to]), port));
      }
    }
    const auto made = suggest(read("[defaults]\nbaseline = \"none\"\n"), flows, {});
    const auto policy = both("[defaults]\nbaseline = \"none\"\n", made);
    ASSERT_LE(made.rules.size(), flows.size());
    for (std::size_t from = 0; from < apps.size(); ++from) {
      for (std::size_t to = 0; to < apps.size(); ++to) {
        for (std::uint16_t port = 80; port < 83; ++port) {
          ASSERT_EQ(passes(policy, flow(labeled(apps[from]), labeled(apps[to]), port)),
                    seen.contains({from, to, port}))
              << made.toml("round " + std::to_string(round));
        }
      }
    }
  }
}

}  // namespace
}  // namespace trireme::config
