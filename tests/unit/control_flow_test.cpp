// SPDX-License-Identifier: Apache-2.0
// The store of reported flows: filters, which flows are counted together, and which are dropped.
#include "trireme/control/flow.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace trireme::control {
namespace {

using nlohmann::json;

Flow flow(const std::string& app, std::uint16_t port,
          policy::Verdict verdict = policy::Verdict::deny) {
  Flow made;
  made.time = std::chrono::system_clock::now();
  made.verdict = verdict;
  made.source.labels.emplace();
  EXPECT_TRUE(made.source.labels->set("app", app));
  made.source.workload = app + ".scope";
  made.source.address = *policy::Address::parse("10.0.0.1");
  made.destination.entity = "@world";
  made.destination.address = *policy::Address::parse("192.0.2.53");
  made.protocol = 17;
  made.port = port;
  made.reason = "no rule allows it";
  return made;
}

policy::Policy with_network() {
  policy::Policy policy;
  policy.networks = {
      {.name = "dns", .cidrs = {*policy::Prefix::parse("192.0.2.0/24")}, .names = {}, .where = {}}};
  return policy;
}

bool picks(const json& params, const Flow& flow) {
  const auto filter = FlowFilter::parse(params, with_network());
  EXPECT_TRUE(filter) << (filter ? "" : filter.error().text());
  return filter && filter->matches(flow);
}

TEST(FlowFilter, PicksByWhatWasAsked) {
  const Flow web = flow("web", 53);
  for (const json& yes :
       {json::object(), json{{"verdict", {"audit", "deny"}}}, json{{"from", "app=web"}},
        json{{"from", {"app=x", "app in (web)"}}}, json{{"from", "web.scope"}},
        json{{"from", "we*"}}, json{{"to", "@world"}}, json{{"to", "@dns"}},
        json{{"with", "192.0.2.53"}}, json{{"with", "10.0.0.0/8"}}, json{{"port", "53"}},
        json{{"port", "udp/50-60"}}, json{{"port", "53/udp"}}, json{{"protocol", "udp"}},
        json{{"since", 60U}}, json{{"from", "*"}}}) {
    EXPECT_TRUE(picks(yes, web)) << yes;
  }
  for (const json& no :
       {json{{"verdict", "allow"}}, json{{"from", "app=db"}}, json{{"from", "@host"}},
        json{{"to", "@host"}}, json{{"to", "app=web"}}, json{{"from", "@dns"}},
        json{{"with", "10.1.0.0/16"}}, json{{"port", "tcp/53"}}, json{{"port", "54-60"}},
        json{{"protocol", "icmp"}}, json{{"from", "app=web"}, {"verdict", "audit"}}}) {
    EXPECT_FALSE(picks(no, web)) << no;
  }
}

TEST(FlowFilter, NetworksByNameAreThoseOfTheFlow) {
  policy::Policy policy;
  policy.networks = {{.name = "mirror", .cidrs = {}, .names = {"deb.example.org"}, .where = {}}};
  const auto filter = FlowFilter::parse({{"to", "@mirror"}}, policy);
  ASSERT_TRUE(filter);
  Flow web = flow("web", 443);
  EXPECT_FALSE(filter->matches(web));
  web.destination.networks = {"mirror"};
  EXPECT_TRUE(filter->matches(web));
}

TEST(FlowFilter, SaysWhatItDoesNotUnderstand) {
  for (const json& bad :
       {json{{"verdict", "denied"}}, json{{"from", "@nowhere"}}, json{{"from", "app=(x"}},
        json{{"port", "tcp/"}}, json{{"port", "70000"}}, json{{"port", "9-8"}},
        json{{"port", "http"}}, json{{"protocol", "sctp"}}}) {
    const auto filter = FlowFilter::parse(bad, with_network());
    ASSERT_FALSE(filter) << bad;
    EXPECT_TRUE(filter.error().usage) << "what was asked for is wrong, not the daemon";
  }
}

TEST(FlowStore, TheNewestThatMatchComeOldestFirst) {
  FlowStore store;
  for (std::uint16_t port = 1; port <= 9; ++port) {
    store.add(flow(port % 2 == 0 ? "even" : "odd", port));
  }
  const auto filter = *FlowFilter::parse({{"from", "app=odd"}}, {});
  const auto found = store.recent(filter, 2);
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0]->port, 7);
  EXPECT_EQ(found[1]->port, 9);
}

TEST(FlowStore, CountsTheSameTogetherAndForgetsTheOldest) {
  FlowStore store({.recent = 10, .tallies = 3, .bytes = 1U << 20U});
  for (int i = 0; i < 5; ++i) {
    store.add(flow("web", 53));
  }
  for (const std::uint16_t port : std::initializer_list<std::uint16_t>{1, 2, 53, 3}) {
    store.add(flow("web", port));
  }
  const auto found = store.tallies({}, 10);
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(found[0]->count, 6U);
  EXPECT_EQ(found[0]->last.port, 53);
  EXPECT_EQ(store.forgotten(), 1U);
}

TEST(FlowStore, TalliesBeyondTheLimitAreCounted) {
  FlowStore store;
  for (std::uint16_t port = 1; port <= 5; ++port) {
    store.add(flow("web", port));
    store.add(flow("other", port));
  }
  const auto filter = FlowFilter::parse({{"from", {"app=web"}}}, with_network());
  std::size_t left_out = 99;
  EXPECT_EQ(store.tallies(*filter, 3, &left_out).size(), 3U);
  EXPECT_EQ(left_out, 2U) << "flows that do not match the filter do not count";
  EXPECT_EQ(store.tallies(*filter, 5, &left_out).size(), 5U);
  EXPECT_EQ(left_out, 0U);
}

TEST(FlowStore, BytesAreBoundedWhateverTheLabels) {
  FlowStore store({.recent = 1000, .tallies = 1000, .bytes = 64U << 10U});
  for (std::uint16_t port = 0; port < 1000; ++port) {
    Flow large = flow("web", port);
    EXPECT_TRUE(large.source.labels->set("note", std::string(4000, 'x')));
    store.add(std::move(large));
  }
  EXPECT_LT(store.recent({}, 1000).size(), 20U);
  EXPECT_LT(store.tallies({}, 1000).size(), 20U);
  EXPECT_EQ(store.recent({}, 1).front()->port, 999);
}

TEST(FlowStore, OneThatHasMostMakesRoomForOthers) {
  FlowStore store({.recent = 100, .tallies = 50, .bytes = 8U << 20U});
  for (std::uint16_t port = 1; port <= 5; ++port) {
    store.add(flow("quiet", port));
  }
  for (std::uint16_t port = 1; port <= 2000; ++port) {
    store.add(flow("scan", port));
  }
  EXPECT_EQ(store.recent({}, 1000).size(), 100U);
  EXPECT_EQ(store.tallies({}, 1000).size(), 50U);
  const auto quiet = *FlowFilter::parse({{"from", "app=quiet"}}, {});
  EXPECT_EQ(store.recent(quiet, 1000).size(), 5U);
  EXPECT_EQ(store.tallies(quiet, 1000).size(), 5U);
  EXPECT_EQ(store.recent({}, 1).front()->port, 2000);
}

TEST(FlowStore, StrangersAreOneTogetherHoweverManyTheyAre) {
  FlowStore store({.recent = 100, .tallies = 100, .bytes = 8U << 20U});
  for (std::uint16_t port = 1; port <= 40; ++port) {
    store.add(flow("quiet", port));
  }
  for (unsigned host = 0; host < 2000; ++host) {
    Flow stranger = flow("x", 80);
    stranger.source = {};
    stranger.source.entity = "@world";
    stranger.source.address =
        policy::Address::parse(fmt::format("198.18.{}.{}", host / 256, host % 256)).value();
    store.add(std::move(stranger));
  }
  EXPECT_EQ(store.recent({}, 1000).size(), 100U);
  const auto quiet = *FlowFilter::parse({{"from", "app=quiet"}}, {});
  EXPECT_EQ(store.recent(quiet, 1000).size(), 40U);
  EXPECT_EQ(store.tallies(quiet, 1000).size(), 40U);
}

/// Both ends' reports of a flow have the same key: no end of this host names a host.
TEST(FlowStore, WorkloadsWithoutLabelsOfTheirOwnAreCountedByName) {
  FlowStore store;
  for (const char* name : {"a", "b", "a"}) {
    Flow nameless = flow("x", 53);
    nameless.source.labels.emplace();
    EXPECT_TRUE(nameless.source.labels->set_of_host("zone", "eu"));
    nameless.source.workload = name;
    store.add(nameless);
    Flow labeled = flow("x", 53);
    labeled.source.workload = name;
    store.add(labeled);
  }
  const auto found = store.tallies({}, 10);
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(found[0]->count, 3U) << "with labels: by these";
  EXPECT_EQ(found[1]->count, 2U);
  EXPECT_EQ(found[1]->last.source.workload, "a");
}

TEST(Flow, JsonHasBothVerdictsAndThePolicy) {
  Flow made = flow("web", 53);
  EXPECT_EQ(to_json(made)["verdicts"], (json{{"source", nullptr}, {"destination", nullptr}}));
  EXPECT_FALSE(to_json(made).contains("policy"));
  made.at_source = policy::Verdict::allow;
  made.at_destination = policy::Verdict::deny;
  made.policy = "0123456789abcdef";
  EXPECT_EQ(to_json(made)["verdicts"], (json{{"source", "allow"}, {"destination", "deny"}}));
  EXPECT_EQ(to_json(made)["policy"], "0123456789abcdef");
  EXPECT_EQ(to_json(made)["verdict"], "deny") << "as ever";
}

TEST(Flow, WorkloadsInQuarantineOrEndedHaveTheirNames) {
  Flow made = flow("web", 53);
  made.source = {};
  made.source.quarantined = true;
  EXPECT_EQ(to_json(made)["source"], (json{{"quarantined", true}}));
  made.source.workload = "web.scope";
  EXPECT_EQ(to_json(made)["source"], (json{{"quarantined", true}, {"workload", "web.scope"}}));
  EXPECT_EQ(flow_owner(made), "workload web.scope");
  EXPECT_FALSE(seen_flow(to_json(made))) << "no rule could change it";
  made.source.quarantined = false;
  made.source.ended = true;
  EXPECT_EQ(to_json(made)["source"], (json{{"ended", true}, {"workload", "web.scope"}}));
  EXPECT_FALSE(seen_flow(to_json(made)));
}

TEST(FlowFilter, KnowsTheTimeSpanThatItCovers) {
  EXPECT_EQ(FlowFilter().since(), std::chrono::system_clock::time_point::min());
  const auto filter = FlowFilter::parse({{"since", 60U}}, {});
  ASSERT_TRUE(filter);
  EXPECT_LE(filter->since(), std::chrono::system_clock::now() - std::chrono::seconds(60));
}

TEST(Flow, ItsJsonIsReadBack) {
  FlowStore store;
  store.add(flow("web", 53));
  store.add(flow("web", 53));
  const auto seen = seen_flow(to_json(*store.tallies({}, 1).front()));
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->from.text(), "app=web");
  EXPECT_EQ(seen->to.text(), "192.0.2.53");
  EXPECT_EQ(seen->count, 2U);
  EXPECT_EQ(seen->protocol, 17);
  EXPECT_EQ(seen->verdict, policy::Verdict::deny);
  Flow failed = flow("web", 53);
  failed.cause = "untrusted";
  EXPECT_FALSE(seen_flow(to_json(failed)));
}

/// In audit mode, UDP to a host that does not run trireme needs a rule before it is enforced.
TEST(Flow, AuditedDatagramsWithoutAnAnswerAreReadBack) {
  Flow unanswered = flow("web", 53);
  unanswered.cause = "no_answer";
  EXPECT_FALSE(seen_flow(to_json(unanswered))) << "denied: the peer may refuse it";
  unanswered.verdict = policy::Verdict::audit;
  const auto seen = seen_flow(to_json(unanswered));
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->verdict, policy::Verdict::audit);
  unanswered.protocol = 6;
  EXPECT_FALSE(seen_flow(to_json(unanswered))) << "TCP: nobody answered";
}

TEST(Flow, WhatIsKnownOfAnOpenConnectionIsReadBack) {
  Flow open = flow("web", 53);
  open.destination = {};
  open.destination.entity = "@host";
  open.destination.cgroup = "/system.slice/dns.service";
  nlohmann::json object = to_json(open);
  object["local"] = true;
  object["unproved"] = true;
  object["source"]["token"] = true;
  object["client_ports"] = {40000, 40001};
  const auto seen = seen_flow(object);
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->to.cgroup, "/system.slice/dns.service");
  EXPECT_TRUE(seen->to.host);
  EXPECT_TRUE(seen->is_local);
  EXPECT_TRUE(seen->is_unproved);
  EXPECT_TRUE(seen->from.has_token);
  EXPECT_FALSE(seen->to.has_token);
  EXPECT_EQ(seen->client_ports, (std::vector<std::uint16_t>{40000, 40001}));
}

TEST(Flow, ALoopbackAddressIsThisHosts) {
  Flow local = flow("web", 53);
  for (const auto& [address, is_host] :
       {std::pair("127.0.0.1", true), {"127.8.0.1", true}, {"::1", true}, {"192.0.2.1", false}}) {
    local.destination.address = policy::Address::parse(address).value();
    EXPECT_EQ(seen_flow(to_json(local)).value().to.host, is_host) << address;
  }
}

}  // namespace
}  // namespace trireme::control
