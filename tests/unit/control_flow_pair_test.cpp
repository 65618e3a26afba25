// SPDX-License-Identifier: Apache-2.0
// Two reports of one flow become one; two flows stay two.
#include "trireme/control/flow_pairs.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <string>
#include <vector>

namespace trireme::control {
namespace {

using namespace std::chrono_literals;
using policy::Flow;
using policy::FlowEnd;
using policy::Reporter;

const FlowPairs::Clock::time_point kStart = FlowPairs::Clock::time_point(1000s);

FlowEnd workload(const std::string& name) {
  FlowEnd end;
  end.labels.emplace();
  EXPECT_TRUE(end.labels->set("app", "same-for-all"));
  end.workload = name;
  static std::map<std::string, abi::Number> numbers;
  end.number =
      numbers.try_emplace(name, static_cast<abi::Number>(16 + numbers.size())).first->second;
  end.address = *policy::Address::parse("10.0.0.1");
  return end;
}

Flow flow(Reporter reporter, const std::string& from = "web", const std::string& to = "db") {
  Flow made;
  made.reporter = reporter;
  made.verdict = policy::Verdict::deny;
  made.source = workload(from);
  made.destination = workload(to);
  made.protocol = 17;
  made.port = 53;
  return made;
}

TEST(FlowPairs, TheOtherSidesReportIsTheSameFlow) {
  FlowPairs pairs;
  EXPECT_FALSE(pairs.is_repeated(flow(Reporter::server), kStart));
  Flow other = flow(Reporter::client);
  other.source.address = *policy::Address::parse("172.17.0.1");  // after NAT
  other.reason = "with other words";
  other.source.workload.clear();  // it has ended meanwhile
  EXPECT_TRUE(pairs.is_repeated(other, kStart + 1s));
}

TEST(FlowPairs, InAuditModeTheGateRepeatsWhatTheRulesReport) {
  for (const auto& [first, second] :
       {std::pair(Reporter::rules, Reporter::gate), std::pair(Reporter::gate, Reporter::rules)}) {
    FlowPairs pairs;
    EXPECT_FALSE(pairs.is_repeated(flow(first), kStart));
    EXPECT_TRUE(pairs.is_repeated(flow(second), kStart + 100ms));
    EXPECT_FALSE(pairs.is_repeated(flow(first), kStart + 200ms)) << "another connection";
    EXPECT_TRUE(pairs.is_repeated(flow(second), kStart + 300ms)) << "and its second report";
  }
}

TEST(FlowPairs, WhatOnlyTheGateFindsIsAnotherFlow) {
  FlowPairs pairs;
  Flow unstamped = flow(Reporter::gate);
  unstamped.cause = "unstamped";
  EXPECT_FALSE(pairs.is_repeated(flow(Reporter::rules), kStart));
  EXPECT_FALSE(pairs.is_repeated(unstamped, kStart + 1ms));
  EXPECT_TRUE(pairs.is_repeated(flow(Reporter::gate), kStart + 2ms));
}

TEST(FlowPairs, TheSameReporterReportsAnotherFlow) {
  FlowPairs pairs;
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(pairs.is_repeated(flow(Reporter::rules), kStart + i * 1ms));
  }
}

TEST(FlowPairs, WhatRulesDenyHidesNoDenialByAHandshake) {
  for (const Reporter side : {Reporter::client, Reporter::server}) {
    FlowPairs pairs;
    EXPECT_FALSE(pairs.is_repeated(flow(Reporter::rules), kStart)) << "a request without a token";
    EXPECT_FALSE(pairs.is_repeated(flow(side), kStart + 1ms)) << "then one with a forged token";
    EXPECT_FALSE(pairs.is_repeated(flow(Reporter::rules), kStart + 2ms));
  }
}

TEST(FlowPairs, WorkloadsInQuarantineAreKnownByTheirNames) {
  const auto of = [](Reporter reporter, const char* name) {
    Flow made = flow(reporter);
    made.source = {};
    made.source.quarantined = true;
    made.source.workload = name;
    made.source.address = *policy::Address::parse("127.0.0.1");
    made.destination = made.source;
    return made;
  };
  FlowPairs pairs;
  EXPECT_FALSE(pairs.is_repeated(of(Reporter::rules, "one"), kStart));
  EXPECT_FALSE(pairs.is_repeated(of(Reporter::gate, "other"), kStart)) << "of another container";
  EXPECT_TRUE(pairs.is_repeated(of(Reporter::gate, "one"), kStart));
}

TEST(FlowPairs, TheWindowIsShort) {
  FlowPairs pairs;
  EXPECT_FALSE(pairs.is_repeated(flow(Reporter::server), kStart));
  EXPECT_TRUE(pairs.is_repeated(flow(Reporter::client), kStart + FlowPairs::kWindow));
  EXPECT_FALSE(pairs.is_repeated(flow(Reporter::server), kStart + 10s));
  EXPECT_FALSE(pairs.is_repeated(flow(Reporter::client), kStart + 10s + FlowPairs::kWindow + 1ms));
}

TEST(FlowPairs, WhatDiffersIsAnotherFlow) {
  const Flow first = flow(Reporter::server);
  std::vector<Flow> others(8, flow(Reporter::client));
  others[0].verdict = policy::Verdict::audit;  // the policy has changed in between
  others[1].port = 54;
  others[2].protocol = 6;
  others[3].source = workload("web-2");  // of the same labels
  others[4].destination = workload("db-2");
  others[5] = flow(Reporter::client, "db", "web");
  others[6].destination.number = 0;  // another host's, with the same labels
  others[6].destination.host = "db-1";
  others[7].source = {};
  others[7].source.entity = "@host";
  for (const Flow& other : others) {
    FlowPairs pairs;
    EXPECT_FALSE(pairs.is_repeated(first, kStart));
    EXPECT_FALSE(pairs.is_repeated(other, kStart)) << &other - others.data();
    EXPECT_TRUE(pairs.is_repeated(flow(Reporter::client), kStart)) << "the first is still known";
  }
}

TEST(FlowPairs, EndpointsWithoutANameAreKnownByTheirAddress) {
  const auto of = [](Reporter reporter, const char* address, bool quarantined) {
    Flow made = flow(reporter);
    made.source = {};
    made.source.quarantined = quarantined;
    made.source.entity = quarantined ? "" : "@world";
    made.source.address = *policy::Address::parse(address);
    return made;
  };
  FlowPairs pairs;
  EXPECT_FALSE(pairs.is_repeated(of(Reporter::rules, "10.0.0.7", false), kStart));
  EXPECT_FALSE(pairs.is_repeated(of(Reporter::gate, "10.0.0.8", false), kStart));
  EXPECT_FALSE(pairs.is_repeated(of(Reporter::gate, "10.0.0.7", true), kStart));
  EXPECT_TRUE(pairs.is_repeated(of(Reporter::gate, "10.0.0.7", false), kStart));
}

TEST(FlowPairs, MemoryIsBoundedAndSharedByOwners) {
  FlowPairs pairs(64);
  EXPECT_FALSE(pairs.is_repeated(flow(Reporter::server, "quiet"), kStart));
  for (std::uint16_t port = 1; port <= 10'000; ++port) {
    Flow scan = flow(Reporter::server, "scan");
    scan.port = port;
    EXPECT_FALSE(pairs.is_repeated(scan, kStart + 1ms));
  }
  EXPECT_LE(pairs.size(), 1U + 64 / 16);
  EXPECT_TRUE(pairs.is_repeated(flow(Reporter::client, "quiet"), kStart + 2ms))
      << "a scan displaces nobody";
  for (int i = 0; i < 10'000; ++i) {
    Flow stranger = flow(Reporter::server);
    stranger.source = {};
    stranger.source.entity = "@world";
    stranger.source.address =
        *policy::Address::parse("10.1." + std::to_string(i / 256) + "." + std::to_string(i % 256));
    EXPECT_FALSE(pairs.is_repeated(stranger, kStart + 3ms));
  }
  EXPECT_LE(pairs.size(), 1U + 2 * 64 / 16) << "addresses outside this host share one part";
  for (int i = 0; i < 1000; ++i) {
    EXPECT_FALSE(pairs.is_repeated(flow(Reporter::server, "w" + std::to_string(i)), kStart + 4ms));
  }
  EXPECT_LE(pairs.size(), 64U);
  EXPECT_FALSE(pairs.is_repeated(flow(Reporter::server, "later"), kStart + 10s));
  EXPECT_EQ(pairs.size(), 1U) << "what is older than the window is forgotten";
}

}  // namespace
}  // namespace trireme::control
