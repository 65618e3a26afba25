// Policy at both ends of a handshake: refusals, audit mode, peers without labels, and what is
// judged anew after it was authorised.
#include "handshake_support.hpp"

namespace trireme::handshake {
namespace {

policy::Policy nothing(policy::Mode mode = policy::Mode::enforce) {
  policy::Policy policy;
  policy.mode = mode;
  policy.baseline = policy::Baseline::none;
  return policy;
}

policy::Policy to_world(policy::Mode mode = policy::Mode::enforce) {
  policy::Policy policy;
  policy::Rule rule;
  rule.from.emplace_back(policy::Selector::parse("app=web").value());
  rule.to.emplace_back(policy::Entity{.kind = policy::Entity::Kind::world});
  rule.mode = mode;
  policy.rules.push_back(rule);
  return policy;
}

struct Decisions : testing::Test {
  End client{psk_trust("client", kSecret), "app=web"};
  End server{psk_trust("server", kSecret), "app=web"};
  const Connection connection;

  void expect_refused_with_reset(const Outcome& verified) {
    EXPECT_EQ(verified.ruling, Ruling::pass);
    EXPECT_NE(segment(verified.packet).flags() & wire::kRst, 0);
    EXPECT_EQ(segment(verified.packet).acknowledgement(), 1001U) << "acceptable in SYN-SENT";
    EXPECT_FALSE(verified.proof);
  }
};

TEST_F(Decisions, TheServerRefusesOtherLabelsAtOnceAndSaysWhose) {
  End other(psk_trust("other", kSecret), "app=other");
  const Exchange said = exchange(other, server, connection);
  EXPECT_EQ(said.heard.ruling, Ruling::refuse);
  ASSERT_EQ(server.events.size(), 1U);
  EXPECT_EQ(server.last(), Reason::policy);
  EXPECT_EQ(server.events[0].remote->labels, label_set("app=other"));
  EXPECT_FALSE(server.events[0].local_is_client);
}

TEST_F(Decisions, TheClientRefusesAServerThatItsOwnPolicyForbids) {
  client.set_policy(nothing());
  const Exchange said = exchange(client, server, connection);
  expect_refused_with_reset(said.verified);
  EXPECT_EQ(client.last(), Reason::policy);
  EXPECT_EQ(client.events.back().remote->labels, label_set("app=web")) << "proved by REPLY";
  EXPECT_EQ(client.in(said.reply).ruling, Ruling::refuse) << "and so is each repeated SYN-ACK";
  EXPECT_EQ(client.events.size(), 1U) << "told once";
  EXPECT_TRUE(is_kept_back(server.in(connection.data())));
}

TEST_F(Decisions, WithRefuseDropTheClientHearsNothing) {
  policy::Policy silent = nothing();
  silent.refuse = policy::Refuse::drop;
  client.set_policy(silent);
  EXPECT_TRUE(exchange(client, server, connection).verified.drop);
  EXPECT_EQ(client.last(), Reason::policy);
}

TEST_F(Decisions, AuditModeProvesLetsPassAndTells) {
  client.set_policy(nothing(policy::Mode::audit));
  server.set_policy(nothing(policy::Mode::audit));
  const Exchange said = exchange(client, server, connection);
  EXPECT_EQ(said.verified.ruling, Ruling::audit);
  EXPECT_EQ(client.events.back().verdict, policy::Verdict::audit);
  EXPECT_EQ(server.in(said.proof).ruling, Ruling::audit);
  ASSERT_EQ(server.events.size(), 1U);
  EXPECT_EQ(server.events.back().verdict, policy::Verdict::audit);
  EXPECT_EQ(server.last(), Reason::policy);
  EXPECT_EQ(server.events.back().remote->labels, label_set("app=web"));
  EXPECT_EQ(client.out(connection.data()).ruling, Ruling::audit);
  EXPECT_EQ(server.in(connection.data()).ruling, Ruling::audit);
}

TEST_F(Decisions, AuditModeLetsAPeerWithoutProofPass) {
  client.set_policy(nothing(policy::Mode::audit));
  ASSERT_TRUE(client.out(connection.syn()).passes());
  EXPECT_EQ(client.in(connection.syn_ack()).ruling, Ruling::audit);
  EXPECT_EQ(client.last(), Reason::no_proof);
  EXPECT_EQ(client.out(connection.data()).ruling, Ruling::audit);
}

TEST_F(Decisions, AuditModeLetsStrangersAndBothEndsAtOncePass) {
  End stranger(psk_trust("stranger", kNextSecret), "app=web");
  server.set_policy(nothing(policy::Mode::audit));
  const Outcome heard = server.in(stranger.out(connection.syn()).packet);
  EXPECT_EQ(heard.ruling, Ruling::audit);
  EXPECT_EQ(segment(heard.packet).payload_size(), 0U) << "no token reaches an application";
  EXPECT_EQ(server.last(), Reason::untrusted);
  const Connection other = Connection::number(1);
  ASSERT_TRUE(server.out(Draft{.ends = other.back(), .sequence = 9000}.bytes()).passes());
  EXPECT_EQ(server.in(client.out(other.syn()).packet).ruling, Ruling::audit);
  EXPECT_EQ(server.last(), Reason::simultaneous_open);
}

TEST_F(Decisions, ADenyRuleInAuditAuthorisesAndTells) {
  policy::Policy policy;
  policy::Rule rule;
  rule.action = policy::Rule::Action::deny;
  rule.from.emplace_back(policy::Selector::parse("app=web").value());
  rule.to.emplace_back(policy::Selector::parse("app=web").value());
  rule.mode = policy::Mode::audit;
  policy.rules.push_back(rule);
  server.set_policy(policy);
  const Exchange said = exchange(client, server, connection);
  EXPECT_EQ(server.in(said.proof).ruling, Ruling::audit);
  EXPECT_EQ(server.events.back().verdict, policy::Verdict::audit);
}

TEST_F(Decisions, APeerThatProvesNothingIsRefused) {
  ASSERT_TRUE(client.out(connection.syn()).passes());
  expect_refused_with_reset(client.in(connection.syn_ack()));
  EXPECT_EQ(client.last(), Reason::no_proof);
}

TEST_F(Decisions, APeerThatProvesNothingIsReachedWherePolicyNamesIt) {
  client.set_policy(to_world());
  ASSERT_TRUE(client.out(connection.syn()).passes());
  const Outcome verified = client.in(connection.syn_ack());
  EXPECT_EQ(verified.ruling, Ruling::authorise);
  EXPECT_EQ(verified.number, 0U) << "nobody's labels";
  EXPECT_EQ(client.engine->statistics().unproved, 1U);
  EXPECT_EQ(client.in(connection.syn_ack()).ruling, Ruling::pass);
}

TEST_F(Decisions, ADeniedPeerWithLabelsIsNotReachedAsOneWithoutThem) {
  policy::Policy policy = to_world();
  policy.baseline = policy::Baseline::none;
  client.set_policy(policy);
  expect_refused_with_reset(exchange(client, server, connection).verified);
  EXPECT_EQ(client.last(), Reason::policy);
}

// --- judged anew: the kernel asks again once an authorisation is taken away ---

struct Afterwards : Decisions {
  void SetUp() override { ASSERT_TRUE(connects(client, server, connection)); }
};

TEST_F(Afterwards, WhatIsStillAllowedIsAuthorisedAgain) {
  EXPECT_EQ(client.out(connection.data()).ruling, Ruling::authorise);
  EXPECT_EQ(server.in(connection.data()).ruling, Ruling::authorise);
  EXPECT_EQ(server.out(connection.answer()).ruling, Ruling::authorise);
  EXPECT_EQ(client.in(connection.answer()).ruling, Ruling::authorise);
  EXPECT_GE(server.in(connection.data()).number, 1000U) << "as the peer that was proved";
}

TEST_F(Afterwards, ANewPolicyThatForbidsItEndsItAtBothEnds) {
  client.set_policy(nothing());
  server.set_policy(nothing());
  EXPECT_EQ(client.out(connection.data()).ruling, Ruling::refuse);
  EXPECT_EQ(client.last(), Reason::policy);
  EXPECT_EQ(server.in(connection.data()).ruling, Ruling::refuse);
  EXPECT_EQ(server.last(), Reason::policy);
  EXPECT_EQ(server.in(connection.data()).ruling, Ruling::refuse) << "for good";
  EXPECT_EQ(server.last(), Reason::unknown_handshake);
  server.set_policy({});
  EXPECT_EQ(server.in(connection.data()).ruling, Ruling::refuse)
      << "though policy allows new ones again";
}

TEST_F(Afterwards, ANewPolicyInAuditModeLetsItGoOn) {
  server.set_policy(nothing(policy::Mode::audit));
  EXPECT_EQ(server.in(connection.data()).ruling, Ruling::audit);
}

TEST_F(Afterwards, AnEndedWorkloadsFlowsEnd) {
  server.engine->remove_local(End::kNumber);
  EXPECT_EQ(server.in(connection.data()).ruling, Ruling::refuse);
  EXPECT_EQ(server.last(), Reason::unknown_workload);
  ASSERT_NE(server.events.back().self, nullptr);
  EXPECT_EQ(server.events.back().self->number, End::kNumber) << "no @host";
  client.engine->add_local(std::make_shared<const LocalIdentity>(
      End::kNumber, label_set("app=other")));  // the number is another's now
  EXPECT_EQ(client.out(connection.data()).ruling, Ruling::refuse);
  EXPECT_EQ(client.last(), Reason::unknown_workload);
}

TEST_F(Afterwards, ASecretTakenAwayEndsWhatItProved) {
  server.engine->set_trust(psk_trust("server", std::string(kNextSecret) + kSecret));
  EXPECT_EQ(server.in(connection.data()).ruling, Ruling::authorise) << "both count";
  server.engine->set_trust(psk_trust("server", kNextSecret));
  EXPECT_EQ(server.in(connection.data()).ruling, Ruling::refuse);
  EXPECT_EQ(server.last(), Reason::untrusted);
}

TEST_F(Afterwards, AHostWithoutEngineStateIsRefused) {
  End restarted(psk_trust("server", kSecret), "app=web");
  EXPECT_EQ(restarted.in(connection.data()).ruling, Ruling::refuse);
  EXPECT_EQ(restarted.last(), Reason::unknown_handshake);
}

TEST_F(Decisions, ARevokedCertificateEndsWhatItProved) {
  Fleet fleet;
  const auto bad = fleet.issue("a");
  const auto own = fleet.issue("b");
  End one(fleet.trust(bad), "app=web");
  End two(fleet.trust(own), "app=web");
  ASSERT_TRUE(connects(one, two, connection));
  two.engine->set_trust(fleet.trust(own));
  EXPECT_EQ(two.in(connection.data()).ruling, Ruling::authorise)
      << "verified again under the new trust";
  two.engine->set_trust(fleet.trust(own, {bad.certificate}));
  EXPECT_EQ(two.in(connection.data()).ruling, Ruling::refuse);
  EXPECT_EQ(two.last(), Reason::revoked);
}

TEST_F(Decisions, TooMuchPublicKeyWorkAfterARotationEndsNoFlow) {
  // More peers behind one address than its allowance of verifications: their segments wait, TCP
  // repeats them.
  Fleet fleet;
  const auto own = fleet.issue("b");
  End two(fleet.trust(own), "app=web", "10.0.0.0/8", 256);
  constexpr std::uint16_t kHosts = 30;
  for (std::uint16_t number = 0; number < kHosts; number++) {
    End one(fleet.trust("a"), "app=web");
    two.pass_time(std::chrono::seconds(1));
    ASSERT_TRUE(connects(one, two, Connection::number(number))) << number;
  }
  two.engine->set_trust(fleet.trust(own));
  int authorised = 0;
  for (int round = 0; round < 8; round++) {
    authorised = 0;
    for (std::uint16_t number = 0; number < kHosts; number++) {
      const Outcome again = two.in(Connection::number(number).data());
      ASSERT_NE(again.ruling, Ruling::refuse) << number << text(two.last());
      authorised += again.authorises() ? 1 : 0;
    }
    two.pass_time(std::chrono::seconds(1));
  }
  EXPECT_EQ(authorised, kHosts);
}

TEST_F(Decisions, AnUnlabelledPeersFlowGoesOnAsLongAsPolicyNamesIt) {
  client.set_policy(to_world());
  ASSERT_TRUE(client.out(connection.syn()).passes());
  ASSERT_TRUE(client.in(connection.syn_ack()).authorises());
  EXPECT_EQ(client.out(connection.data()).ruling, Ruling::authorise);
  EXPECT_EQ(client.in(connection.answer()).ruling, Ruling::authorise);
  client.set_policy({});
  EXPECT_EQ(client.out(connection.data()).ruling, Ruling::refuse);
  EXPECT_EQ(client.last(), Reason::no_proof);
}

TEST_F(Decisions, AnUnlabelledPeersFlowEndsWithItsWorkload) {
  client.set_policy(to_world());
  ASSERT_TRUE(client.out(connection.syn()).passes());
  ASSERT_TRUE(client.in(connection.syn_ack()).authorises());
  client.engine->remove_local(End::kNumber);
  EXPECT_EQ(client.out(connection.data()).ruling, Ruling::refuse);
}

TEST_F(Decisions, AFlowAuditedThenEnforcedEnds) {
  client.set_policy(nothing(policy::Mode::audit));
  ASSERT_TRUE(client.out(connection.syn()).passes());
  ASSERT_EQ(client.in(connection.syn_ack()).ruling, Ruling::audit);
  EXPECT_EQ(client.out(connection.data()).ruling, Ruling::audit);
  client.set_policy(nothing());
  EXPECT_EQ(client.out(connection.data()).ruling, Ruling::refuse);
}

TEST_F(Decisions, PortsThatAProcessWithoutLabelsUsesAgainAreItsOwn) {
  constexpr policy::Number kHostNumber = 1;
  ASSERT_TRUE(client.out(connection.syn()).passes());
  const Outcome plain = client.out(connection.syn(7'000), kHostNumber);
  EXPECT_EQ(plain.ruling, Ruling::pass);
  EXPECT_EQ(plain.packet, connection.syn(7'000)) << "without a token";
  ASSERT_EQ(client.changes.size(), 1U) << "its packets come to no queue from here on";
  EXPECT_EQ(client.changes.front(), std::pair(connection.ends, FlowChange::release));
  EXPECT_EQ(client.in(connection.syn_ack(7'000)).ruling, Ruling::pass);
  EXPECT_EQ(client.out(connection.data(), kHostNumber).ruling, Ruling::pass);
}

TEST_F(Decisions, APointThatIsGoneLeavesNoHandshakes) {
  const Exchange said = exchange(client, server, connection);
  EXPECT_EQ(server.engine->statistics().handshakes, 1U);
  server.engine->forget_point(0);
  EXPECT_EQ(server.in(said.proof).ruling, Ruling::refuse);
  EXPECT_EQ(server.engine->statistics().handshakes, 0U);
}

}  // namespace
}  // namespace trireme::handshake
