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

SeenEnd named(const std::string& address, std::vector<std::string> names) {
  SeenEnd end = elsewhere(address);
  end.names = std::move(names);
  return end;
}

/// As passes(), with the networks that contain the DNS names of the ends.
bool passes_by_name(const policy::Policy& policy, const SeenFlow& flow) {
  return judge(policy, policy::NameIndex(policy), flow).verdict != policy::Verdict::deny;
}

TEST(Suggest, EachSiteIsANetworkOfItsName) {
  const std::vector<SeenFlow> flows = {
      flow(labeled("app=web"), named("192.0.2.1", {"deb.example.org"}), 443),
      flow(labeled("app=web"), named("192.0.2.2", {"deb.example.org"}), 443),
      flow(labeled("app=web"), named("198.51.100.7", {"api.example.com"}), 443),
      flow(labeled("app=web"), named("203.0.113.9", {"git.example.net"}), 443),
      flow(labeled("app=web"), elsewhere("10.0.0.53"), 53, 17)};
  const auto made = suggest(read(""), flows, {});
  std::map<std::string, std::vector<std::string>> names;
  for (const auto& network : made.networks) {
    EXPECT_EQ(network.names.empty(), !network.cidrs.empty()) << network.name;
    names[network.name] = network.names;
  }
  EXPECT_EQ(names, (std::map<std::string, std::vector<std::string>>{
                       {"deb.example.org", {"deb.example.org"}},
                       {"api.example.com", {"api.example.com"}},
                       {"git.example.net", {"git.example.net"}},
                       {"dns", {}}}));
  const auto policy = both("", made);
  for (const SeenFlow& each : flows) {
    EXPECT_TRUE(passes_by_name(policy, each)) << each.to.text();
  }
  EXPECT_TRUE(passes_by_name(
      policy, flow(labeled("app=web"), named("192.0.2.99", {"deb.example.org"}), 443)))
      << "an address that the site gets later";
  EXPECT_FALSE(passes_by_name(policy, flow(labeled("app=web"), elsewhere("192.0.2.1"), 443)))
      << "an address that is not the site's any more";
}

TEST(Suggest, OfSeveralNamesTheOneThatMostAddressesHave) {
  const auto made =
      suggest(read(""),
              {flow(labeled("app=web"), named("192.0.2.1", {"a.example", "www.example"}), 443),
               flow(labeled("app=web"), named("192.0.2.2", {"www.example", "b.example"}), 443)},
              {});
  ASSERT_THAT(made.networks, SizeIs(1));
  EXPECT_THAT(made.networks[0].names, ElementsAre("www.example"));
}

TEST(Suggest, NamesAreForDestinationsAlone) {
  const auto made = suggest(read(""),
                            {flow(named("192.0.2.1", {"client.example"}), labeled("app=web"), 443),
                             flow(labeled("app=web"), named("192.0.2.53", {"ns.example"}), 53, 17)},
                            {});
  for (const auto& network : made.networks) {
    EXPECT_THAT(network.names, IsEmpty()) << network.name;
  }
  EXPECT_THAT(made.networks, SizeIs(2));
}

TEST(Suggest, ANetworkThatHasTheNameIsUsed) {
  const std::string text = "[[network]]\nname = \"mirror\"\nnames = [\"*.example.org\"]\n";
  const auto made = suggest(
      read(text), {flow(labeled("app=web"), named("192.0.2.1", {"deb.example.org"}), 443)}, {});
  EXPECT_THAT(made.networks, IsEmpty());
  ASSERT_THAT(made.rules, SizeIs(1));
  EXPECT_THAT(made.rules[0].to, ElementsAre("@mirror"));
}

TEST(Suggest, NamesInAnswersDoNoHarm) {
  for (const std::string& bad :
       {std::string("x\"]\n[[allow]]"), std::string("-a.example"), std::string("a..b"),
        std::string("*.example"), std::string("10.0.0.1"), std::string(64, 'a'),
        std::string("A.example"), std::string("")}) {
    const auto made =
        suggest(read(""), {flow(labeled("app=web"), named("192.0.2.1", {bad}), 443)}, {});
    ASSERT_THAT(made.networks, SizeIs(1)) << bad;
    EXPECT_THAT(made.networks[0].names, IsEmpty()) << bad;
    (void)both("", made);
  }
  const auto reserved =
      suggest(read(""), {flow(labeled("app=web"), named("192.0.2.1", {"world"}), 443)}, {});
  ASSERT_THAT(reserved.networks, SizeIs(1));
  EXPECT_EQ(reserved.networks[0].name, "world-2");
  (void)both("", reserved);
}

TEST(Suggest, WorkloadsWithoutLabelsGetALineThatGivesThemOne) {
  const auto line = [](const std::string& name) {
    SeenFlow nameless = flow(labeled("app=web"), labeled("app=db"), 80);
    nameless.from.labels.emplace();
    nameless.from.workload = name;
    const auto made = suggest(read(""), {nameless}, {});
    EXPECT_THAT(made.left_out, SizeIs(1));
    (void)both("", made);
    return made.left_out.at(0);
  };
  EXPECT_EQ(line("shop_worker_1"),
            "1 flow: shop_worker_1 has no labels: add one: docker run -l app=shop_worker; in a "
            "compose file: labels: [\"app=shop_worker\"]");
  EXPECT_EQ(line("redis"),
            "1 flow: redis has no labels: add one: docker run -l app=redis; in a compose file: "
            "labels: [\"app=redis\"]");
  EXPECT_EQ(line("postgresql@15-main.service"),
            "1 flow: postgresql@15-main.service has no labels: add one: [[unit]] name = "
            "\"postgresql@15-main.service\", labels = { app = \"postgresql\" } in identity.toml");
  EXPECT_EQ(line("x.scope"), "1 flow: x.scope has no labels: add one: trirun -l app=x -- COMMAND");
  EXPECT_THAT(line("a b=c"), HasSubstr("app=NAME")) << "no value that a label can have";
}

TEST(Suggest, APublishedPortIsCalledThat) {
  const policy::Published published = {
      {*labeled("app=nginx").labels, {{6, 80, 8080}, {6, 443, 8443}}},
      {*labeled("app=db").labels, {{6, 5432, 5432}}}};
  const auto names = [&](const SeenFlow& flow) {
    const auto made = suggest(read("[defaults]\nbaseline = \"none\"\n"), {flow}, {}, published);
    std::vector<std::string> list;
    for (const auto& rule : made.rules) {
      list.push_back(rule.name);
    }
    return list;
  };
  EXPECT_THAT(names(flow(elsewhere("192.0.2.9"), labeled("app=nginx"), 80)),
              ElementsAre("@clients to app=nginx, published port tcp/8080"));
  EXPECT_THAT(names(flow(host("127.0.0.1"), labeled("app=nginx"), 443)),
              ElementsAre("@host to app=nginx, published port tcp/8443"));
  EXPECT_THAT(names(flow(host("127.0.0.1"), labeled("app=nginx"), 81)),
              ElementsAre("@host to app=nginx"))
      << "not published";
  EXPECT_THAT(names(flow(labeled("app=web"), labeled("app=nginx"), 80)),
              ElementsAre("app=web to app=nginx"))
      << "workloads reach the container itself";
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

// Labels and names come from others, and the file is shown on a terminal.
TEST(Suggestion, ControlCharactersAreEscapedInStringsAndReplacedInComments) {
  EXPECT_EQ(policy::toml_string("a\"\\\x1B\xC2\x9B\xE2\x80\xAEz"), R"("a\"\\\u001B\u009B\u202Ez")");
  EXPECT_THAT(policy::Suggestion().toml("x\x1B\xC2\x9B\xE2\x80\xAEy\n[[allow]]"),
              testing::StartsWith("# x???y?[[allow]]\n"));
  const auto made =
      parse({{"policy.toml",
              "[[allow]]\nfrom = '*'\nto = " + policy::toml_string("app=\xE2\x80\xAEz") + "\n"}},
            {});
  ASSERT_TRUE(made.valid());
  ASSERT_THAT(made.policy.rules, SizeIs(1));
}

}  // namespace
}  // namespace trireme::config
