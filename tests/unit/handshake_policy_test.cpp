// SPDX-License-Identifier: Apache-2.0
// Policy on both sides of a handshake, over TCP and UDP: refusals, audit mode, peers without
// labels, and re-evaluation of authorized flows.
#include "handshake_talk.hpp"

namespace trireme::handshake {
namespace {

policy::Policy nothing(policy::Mode mode = policy::Mode::enforce) {
  policy::Policy policy;
  policy.mode = mode;
  policy.baseline = policy::Baseline::none;
  return policy;
}

policy::Policy to_world() {
  policy::Policy policy;
  policy::Rule rule;
  rule.from.emplace_back(policy::Selector::parse("app=web").value());
  rule.to.emplace_back(policy::Entity{.kind = policy::Entity::Kind::world});
  policy.rules.push_back(rule);
  return policy;
}

struct Decisions : testing::TestWithParam<Over> {
  Host client{psk_trust("client", kSecret), "app=web"};
  Host server{psk_trust("server", kSecret), "app=web"};
  Talk talk{GetParam(), client, server};
  /// A peer that proves nothing.
  Reason no_proof = GetParam() == Over::tcp ? Reason::no_proof : Reason::no_answer;
};
INSTANTIATE_TEST_SUITE_P(Carriers, Decisions, kBothCarriers,
                         [](const auto& over) { return name_of(over.param); });

TEST_P(Decisions, TheServerRefusesOtherLabelsAtOnceAndSaysWhose) {
  Host other(psk_trust("other", kSecret), "app=other");
  Talk asked(GetParam(), other, server);
  EXPECT_FALSE(asked.take_hello(asked.ask()));
  ASSERT_EQ(server.events.size(), 1U);
  EXPECT_EQ(server.last(), Reason::policy);
  EXPECT_EQ(server.events[0].remote->labels, label_set("app=other"));
  EXPECT_FALSE(server.events[0].local_is_client);
}

TEST_P(Decisions, TheClientRefusesAServerThatItsOwnPolicyForbids) {
  client.set_policy(nothing());
  ASSERT_TRUE(talk.take_hello(talk.ask()));
  EXPECT_TRUE(talk.verify(talk.reply()).is_refused());
  EXPECT_TRUE(talk.proof().empty());
  EXPECT_EQ(client.last(), Reason::policy);
  EXPECT_EQ(client.events.back().remote->labels, label_set("app=web")) << "proved by REPLY";
  EXPECT_FALSE(talk.verify(talk.reply()).authorizes()) << "nor is a repeated REPLY";
  EXPECT_TRUE(talk.client_sends().is_refused());
  EXPECT_TRUE(talk.server_receives().is_kept_back);
}

TEST_P(Decisions, ADenialOfTheServersThatComesAfterHelloCounts) {
  ASSERT_TRUE(talk.exchange());
  server.set_policy(nothing());
  EXPECT_FALSE(talk.prove(talk.proof()));
  EXPECT_EQ(server.refused(Reason::policy), 1U);
}

TEST_P(Decisions, AuditModeProvesLetsPassAndReports) {
  client.set_policy(nothing(policy::Mode::audit));
  server.set_policy(nothing(policy::Mode::audit));
  ASSERT_TRUE(talk.take_hello(talk.ask()));
  EXPECT_EQ(talk.verify(talk.reply()).ruling, abi::Ruling::audit);
  EXPECT_EQ(client.events.back().verdict, policy::Verdict::audit);
  EXPECT_TRUE(talk.prove(talk.proof()));
  ASSERT_EQ(server.events.size(), 1U);
  EXPECT_EQ(server.events.back().verdict, policy::Verdict::audit);
  EXPECT_EQ(server.last(), Reason::policy);
  EXPECT_EQ(server.events.back().remote->labels, label_set("app=web"));
  talk.settle();
  EXPECT_EQ(talk.client_sends().ruling, abi::Ruling::audit);
  EXPECT_EQ(talk.server_receives().ruling, abi::Ruling::audit);
}

TEST_P(Decisions, AuditModeLetsAPeerWithoutProofPass) {
  client.set_policy(nothing(policy::Mode::audit));
  ASSERT_FALSE(talk.ask().empty());
  EXPECT_EQ(talk.silence().ruling, abi::Ruling::audit);
  EXPECT_EQ(client.last(), no_proof);
  EXPECT_EQ(talk.client_sends().ruling, abi::Ruling::audit);
}

TEST_P(Decisions, ADenyRuleInAuditAuthorizesAndReports) {
  policy::Policy policy;
  policy::Rule rule;
  rule.action = policy::Rule::Action::deny;
  rule.from.emplace_back(policy::Selector::parse("app=web").value());
  rule.to.emplace_back(policy::Selector::parse("app=web").value());
  rule.mode = policy::Mode::audit;
  policy.rules.push_back(rule);
  server.set_policy(policy);
  ASSERT_TRUE(talk.connects());
  EXPECT_EQ(server.events.back().verdict, policy::Verdict::audit);
  talk.settle();
  EXPECT_EQ(talk.server_receives().ruling, abi::Ruling::audit);
}

TEST_P(Decisions, APeerThatProvesNothingIsRefused) {
  ASSERT_FALSE(talk.ask().empty());
  EXPECT_TRUE(talk.silence().is_refused());
  EXPECT_EQ(client.last(), no_proof);
}

TEST_P(Decisions, APeerThatProvesNothingIsReachedWherePolicyNamesIt) {
  client.set_policy(to_world());
  ASSERT_FALSE(talk.ask().empty());
  const Fate fate = talk.silence();
  EXPECT_EQ(fate.ruling, abi::Ruling::authorize);
  EXPECT_EQ(fate.number, 0U) << "no labels";
  EXPECT_EQ(client.engine->statistics().unproved, 1U);
}

TEST_P(Decisions, ADeniedPeerWithLabelsIsNotReachedAsOneWithoutThem) {
  policy::Policy policy = to_world();
  policy.baseline = policy::Baseline::none;
  client.set_policy(policy);
  ASSERT_TRUE(talk.take_hello(talk.ask()));
  EXPECT_TRUE(talk.verify(talk.reply()).is_refused());
  EXPECT_EQ(client.last(), Reason::policy);
}

// --- re-evaluation: the kernel queues packets again after an authorization is withdrawn ---

struct Afterwards : Decisions {
  void SetUp() override {
    ASSERT_TRUE(talk.connects());
    talk.settle();
  }
};
INSTANTIATE_TEST_SUITE_P(Carriers, Afterwards, kBothCarriers,
                         [](const auto& over) { return name_of(over.param); });

TEST_P(Afterwards, WhatIsStillAllowedIsAuthorizedAgain) {
  for (const Fate& fate : {talk.client_sends(), talk.server_receives(), talk.server_answers(),
                           talk.client_receives()}) {
    EXPECT_EQ(fate.ruling, abi::Ruling::authorize);
    EXPECT_GE(fate.number, 1000U) << "the number of the proved peer";
  }
}

TEST_P(Afterwards, ANewPolicyThatForbidsItEndsItAtBothEnds) {
  client.set_policy(nothing());
  server.set_policy(nothing());
  EXPECT_TRUE(talk.client_sends().is_refused());
  EXPECT_EQ(client.last(), Reason::policy);
  EXPECT_TRUE(talk.server_receives().is_refused());
  EXPECT_EQ(server.last(), Reason::policy);
  EXPECT_TRUE(talk.server_receives().is_refused()) << "permanently";
  EXPECT_EQ(server.last(), Reason::unknown_handshake);
  server.set_policy({});
  EXPECT_TRUE(talk.server_receives().is_refused()) << "though policy allows new ones again";
}

TEST_P(Afterwards, ANewPolicyInAuditModeLetsItGoOn) {
  server.set_policy(nothing(policy::Mode::audit));
  EXPECT_EQ(talk.server_receives().ruling, abi::Ruling::audit);
}

TEST_P(Afterwards, AnEndedWorkloadsFlowsEnd) {
  server.engine->remove_local(End::kNumber);
  EXPECT_TRUE(talk.server_receives().is_refused());
  EXPECT_EQ(server.last(), Reason::unknown_workload);
  ASSERT_NE(server.events.back().self, nullptr);
  EXPECT_EQ(server.events.back().self->number, End::kNumber) << "no @host";
  client.engine->add_local(std::make_shared<const LocalIdentity>(
      End::kNumber, label_set("app=other")));  // another workload has the number now
  EXPECT_TRUE(talk.client_sends().is_refused());
  EXPECT_EQ(client.last(), Reason::unknown_workload);
}

TEST_P(Afterwards, ASecretTakenAwayEndsWhatItProved) {
  server.engine->set_trust(psk_trust("server", std::string(kNextSecret) + kSecret));
  EXPECT_EQ(talk.server_receives().ruling, abi::Ruling::authorize) << "both count";
  server.engine->set_trust(psk_trust("server", kNextSecret));
  EXPECT_TRUE(talk.server_receives().is_refused());
  EXPECT_EQ(server.last(), Reason::untrusted);
}

TEST_P(Afterwards, AHostWithoutEngineStateIsRefused) {
  Host restarted(psk_trust("server", kSecret), "app=web");
  EXPECT_TRUE(Talk(GetParam(), client, restarted).server_receives().is_refused());
  EXPECT_EQ(restarted.last(), Reason::unknown_handshake);
}

TEST_P(Decisions, ARevokedCertificateEndsWhatItProved) {
  Fleet fleet;
  const auto bad = fleet.issue("a");
  const auto own = fleet.issue("b");
  Host one(fleet.trust(bad), "app=web");
  Host two(fleet.trust(own), "app=web");
  Talk between(GetParam(), one, two);
  ASSERT_TRUE(between.connects());
  between.settle();
  two.engine->set_trust(fleet.trust(own));
  EXPECT_EQ(between.server_receives().ruling, abi::Ruling::authorize)
      << "verified again under the new trust";
  two.engine->set_trust(fleet.trust(own, {bad.certificate}));
  EXPECT_TRUE(between.server_receives().is_refused());
  EXPECT_EQ(two.last(), Reason::revoked);
}

TEST_P(Decisions, TooMuchPublicKeyWorkAfterARotationEndsNoFlow) {
  // There are more peers behind one address than its allowance of verifications. Their packets wait
  // or are repeated.
  Fleet fleet;
  const auto own = fleet.issue("b");
  Host two(fleet.trust(own), "app=web", 256);
  constexpr std::uint16_t kHosts = 30;
  std::vector<std::unique_ptr<Host>> hosts;
  std::vector<Talk> talks;
  for (std::uint16_t number = 0; number < kHosts; number++) {
    hosts.push_back(std::make_unique<Host>(fleet.trust("a"), "app=web"));
    two.pass_time(std::chrono::seconds(1));
    talks.emplace_back(GetParam(), *hosts.back(), two, number);
    ASSERT_TRUE(talks.back().connects()) << number;
  }
  two.engine->set_trust(fleet.trust(own));
  int authorized = 0;
  for (int round = 0; round < 8; round++) {
    authorized = 0;
    for (Talk& each : talks) {
      const Fate again = each.server_receives();
      ASSERT_FALSE(again.is_refused()) << text(two.last());
      authorized += again.authorizes() ? 1 : 0;
    }
    two.pass_time(std::chrono::seconds(1));
  }
  EXPECT_EQ(authorized, kHosts);
}

TEST_P(Decisions, AnUnlabeledPeersFlowGoesOnAsLongAsPolicyNamesIt) {
  client.set_policy(to_world());
  ASSERT_FALSE(talk.ask().empty());
  ASSERT_TRUE(talk.silence().authorizes());
  EXPECT_EQ(talk.client_sends().ruling, abi::Ruling::authorize);
  EXPECT_EQ(talk.client_receives().ruling, abi::Ruling::authorize);
  client.set_policy({});
  EXPECT_TRUE(talk.client_sends().is_refused());
  EXPECT_EQ(client.last(), no_proof);
}

TEST_P(Decisions, AnUnlabeledPeersFlowEndsWithItsWorkload) {
  client.set_policy(to_world());
  ASSERT_FALSE(talk.ask().empty());
  ASSERT_TRUE(talk.silence().authorizes());
  client.engine->remove_local(End::kNumber);
  EXPECT_TRUE(talk.client_sends().is_refused());
}

TEST_P(Decisions, AFlowAuditedThenEnforcedEnds) {
  client.set_policy(nothing(policy::Mode::audit));
  ASSERT_FALSE(talk.ask().empty());
  ASSERT_EQ(talk.silence().ruling, abi::Ruling::audit);
  EXPECT_EQ(talk.client_sends().ruling, abi::Ruling::audit);
  client.set_policy(nothing());
  EXPECT_TRUE(talk.client_sends().is_refused());
}

TEST_P(Decisions, APointThatIsGoneLeavesNoHandshakes) {
  ASSERT_TRUE(talk.exchange());
  EXPECT_EQ(server.engine->statistics().handshakes, 1U);
  server.engine->forget_point(0);
  EXPECT_FALSE(talk.prove(talk.proof()));
  EXPECT_EQ(server.engine->statistics().handshakes, 0U);
}

// --- TCP only: resets, and simultaneous open ---

struct SegmentDecisions : testing::Test {
  End client{psk_trust("client", kSecret), "app=web"};
  End server{psk_trust("server", kSecret), "app=web"};
  const Connection connection;
};

TEST_F(SegmentDecisions, WithRefuseDropTheClientGetsNothing) {
  policy::Policy silent = nothing();
  silent.refuse = policy::Refuse::drop;
  client.set_policy(silent);
  EXPECT_TRUE(exchange(client, server, connection).verified.drop);
  EXPECT_EQ(client.last(), Reason::policy);
}

TEST_F(SegmentDecisions, AuditModeLetsStrangersAndBothEndsAtOncePass) {
  End stranger(psk_trust("stranger", kNextSecret), "app=web");
  server.set_policy(nothing(policy::Mode::audit));
  const Outcome received = server.in(stranger.out(connection.syn()).packet);
  EXPECT_EQ(received.ruling, abi::Ruling::audit);
  EXPECT_EQ(segment(received.packet).payload_size(), 0U) << "no token reaches an application";
  EXPECT_EQ(server.last(), Reason::untrusted);
  const Connection other = Connection::number(1);
  ASSERT_TRUE(server.out(Draft{.ends = other.back(), .sequence = 9000}.bytes()).passes());
  EXPECT_EQ(server.in(client.out(other.syn()).packet).ruling, abi::Ruling::audit);
  EXPECT_EQ(server.last(), Reason::simultaneous_open);
}

TEST_F(SegmentDecisions, PortsThatAProcessWithoutLabelsUsesAgainAreItsOwn) {
  constexpr policy::Number kHostNumber = 1;
  ASSERT_TRUE(client.out(connection.syn()).passes());
  const Outcome plain = client.out(connection.syn(7'000), kHostNumber);
  EXPECT_EQ(plain.ruling, abi::Ruling::pass);
  EXPECT_EQ(plain.packet, connection.syn(7'000)) << "without a token";
  ASSERT_EQ(client.changes.size(), 1U) << "its packets are not queued any more";
  EXPECT_EQ(client.changes.front(), std::pair(connection.ends, FlowChange::clear));
  EXPECT_EQ(client.in(connection.syn_ack(7'000)).ruling, abi::Ruling::pass);
  EXPECT_EQ(client.out(connection.data(), kHostNumber).ruling, abi::Ruling::pass);
}

TEST_F(SegmentDecisions, ARepeatedSynAckOfARefusedServerIsReportedOnce) {
  client.set_policy(nothing());
  const Exchange said = exchange(client, server, connection);
  EXPECT_EQ(client.in(said.reply).ruling, abi::Ruling::refuse);
  EXPECT_EQ(client.events.size(), 1U);
}

}  // namespace
}  // namespace trireme::handshake
