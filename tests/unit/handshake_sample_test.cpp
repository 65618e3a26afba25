// SPDX-License-Identifier: Apache-2.0
// Samples of flows that a handshake has authorized: which flows are reported, and how many.
#include <gmock/gmock.h>

#include "handshake_talk.hpp"
#include "trireme/handshake/sample_limiter.hpp"

namespace trireme::handshake {
namespace {

using std::chrono::milliseconds;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr milliseconds kStart = std::chrono::hours(1000);

TEST(SampleLimiter, AKindIsAdmittedOnceAMinute) {
  SampleLimiter limiter;
  const Owner owner = Owner::workload(100);
  EXPECT_TRUE(limiter.admit(1, owner, kStart));
  EXPECT_FALSE(limiter.admit(1, owner, kStart));
  EXPECT_TRUE(limiter.admit(2, owner, kStart)) << "another kind";
  EXPECT_FALSE(limiter.admit(1, owner, kStart + SampleLimiter::kAgain - milliseconds(1)));
  EXPECT_TRUE(limiter.admit(1, owner, kStart + SampleLimiter::kAgain));
}

TEST(SampleLimiter, AFloodOfOneOwnerLeavesRoomForOthers) {
  SampleLimiter limiter;
  std::size_t admitted = 0;
  for (std::uint64_t kind = 1; kind <= 10'000; kind++) {
    admitted += limiter.admit(kind, Owner::workload(100), kStart) ? 1U : 0U;
  }
  EXPECT_EQ(admitted, SampleLimiter::kOfOwner);
  EXPECT_TRUE(limiter.admit(20'000, Owner::workload(101), kStart));
  for (std::uint64_t kind = 30'000; kind < 40'000; kind++) {
    const auto owner = static_cast<policy::Number>(1000 + kind);
    admitted += limiter.admit(kind, Owner::workload(owner), kStart) ? 1U : 0U;
  }
  EXPECT_EQ(admitted + 1, SampleLimiter::kPerSecond) << "however many they are";
  EXPECT_TRUE(limiter.admit(50'000, Owner::workload(100), kStart + std::chrono::seconds(1)))
      << "the next second";
}

struct Samples : testing::TestWithParam<Over> {
  void SetUp() override {
    client.engine->on_sample = [this](Event&& sample) { at_client.push_back(std::move(sample)); };
    server.engine->on_sample = [this](Event&& sample) { at_server.push_back(std::move(sample)); };
  }
  void pass_time(milliseconds time) {
    client.pass_time(time);
    server.pass_time(time);
  }
  static policy::Policy logged() {
    policy::Policy policy;
    policy::Rule rule;
    rule.from.emplace_back(policy::Selector::parse("app=web").value());
    rule.to.emplace_back(policy::Selector::parse("app=web").value());
    rule.log = true;
    policy.rules.push_back(rule);
    return policy;
  }

  Host client{psk_trust("client", kSecret), "app=web"};
  Host server{psk_trust("server", kSecret), "app=web"};
  std::vector<Event> at_client, at_server;
};
INSTANTIATE_TEST_SUITE_P(Carriers, Samples, kBothCarriers,
                         [](const auto& over) { return name_of(over.param); });

TEST_P(Samples, BothHostsReportAnAllowedFlowWithThePeersLabels) {
  Talk talk(GetParam(), client, server);
  ASSERT_TRUE(talk.connects());
  for (const auto& [samples, is_client] :
       {std::pair(&at_client, true), std::pair(&at_server, false)}) {
    ASSERT_THAT(*samples, SizeIs(1)) << is_client;
    const Event& sample = samples->front();
    EXPECT_EQ(sample.verdict, policy::Verdict::allow);
    EXPECT_EQ(sample.local_is_client, is_client);
    EXPECT_EQ(sample.local, Host::kNumber);
    ASSERT_NE(sample.remote, nullptr);
    EXPECT_EQ(sample.remote->labels, label_set("app=web"));
    EXPECT_FALSE(sample.detail.empty()) << "why it is allowed: the baseline";
  }
  EXPECT_THAT(client.events, IsEmpty()) << "a sample is no event for the log";
  EXPECT_THAT(server.events, IsEmpty());
}

TEST_P(Samples, TheSameEndsAndPortAreOneSampleAMinute) {
  for (std::uint16_t number = 0; number < 5; number++) {
    Talk talk(GetParam(), client, server, number);
    ASSERT_TRUE(talk.connects()) << number;
  }
  EXPECT_THAT(at_client, SizeIs(1));
  EXPECT_THAT(at_server, SizeIs(1));
  pass_time(SampleLimiter::kAgain + milliseconds(1));
  Talk later(GetParam(), client, server, 9);
  ASSERT_TRUE(later.connects());
  EXPECT_THAT(at_client, SizeIs(2));
  EXPECT_THAT(at_server, SizeIs(2));
}

TEST_P(Samples, APeerWithoutLabelsThatPolicyAllowsIsASample) {
  policy::Policy policy;
  policy::Rule rule;
  rule.from.emplace_back(policy::Selector::parse("app=web").value());
  rule.to.emplace_back(policy::Entity{.kind = policy::Entity::Kind::world});
  policy.rules.push_back(rule);
  client.set_policy(policy);
  Talk talk(GetParam(), client, server);
  ASSERT_FALSE(talk.ask().empty());
  EXPECT_EQ(talk.silence().ruling, abi::Ruling::authorize);
  ASSERT_THAT(at_client, SizeIs(1));
  EXPECT_EQ(at_client[0].remote, nullptr);
  EXPECT_FALSE(at_client[0].rule.empty());
}

TEST_P(Samples, WhatIsRefusedOrReportedAnywayIsNoSample) {
  client.set_policy(logged());
  server.set_policy(logged());
  Talk talk(GetParam(), client, server);
  ASSERT_TRUE(talk.connects());
  EXPECT_THAT(client.events, SizeIs(1)) << "its rule is logged";
  policy::Policy nothing;
  nothing.baseline = policy::Baseline::none;
  server.set_policy(nothing);
  Talk refused(GetParam(), client, server, 1);
  EXPECT_FALSE(refused.take_hello(refused.ask()));
  nothing.mode = policy::Mode::audit;
  client.set_policy(nothing);
  server.set_policy(nothing);
  Talk audited(GetParam(), client, server, 2);
  ASSERT_TRUE(audited.connects());
  EXPECT_THAT(at_client, IsEmpty());
  EXPECT_THAT(at_server, IsEmpty());
}

}  // namespace
}  // namespace trireme::handshake
