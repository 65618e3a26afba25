// SPDX-License-Identifier: Apache-2.0
// The UDP handshake between two engines: messages, held datagrams, repetitions and timeouts.
#include "handshake_datagram_support.hpp"

namespace trireme::handshake {
namespace {

/// Allows these workloads to reach the server's address, with or without labels there.
policy::Policy without_proof(const std::string& from) {
  policy::Policy policy;
  policy.networks.push_back({.name = "dns",
                             .cidrs = {policy::Prefix::parse("10.0.0.2/32").value()},
                             .names = {},
                             .where = {}});
  policy::Rule rule;
  rule.from.emplace_back(policy::Selector::parse(from).value());
  rule.to.emplace_back(policy::Entity{policy::Entity::Kind::network, 0});
  policy.rules.push_back(rule);
  return policy;
}

TEST_F(DatagramTest, AuthorizesBothEndsByProof) {
  const Packet asked = hello();
  EXPECT_EQ(client.port.numbers.front(), abi::kControlPriority | End::kNumber);
  EXPECT_TRUE(client.leave(data("second")).hold);
  const auto reply = server.take_hello(asked, abi::kFresh);
  ASSERT_TRUE(reply) << text(server.events.back().reason);
  EXPECT_LE(reply->size(), asked.size());
  EXPECT_TRUE(server.arrive(data("early")).hold) << "before PROOF";
  EXPECT_TRUE(client.port.verdicts.empty());
  EXPECT_TRUE(client.arrive(*reply, abi::kReplies).drop) << "REPLY stops here";
  ASSERT_EQ(client.port.verdicts.size(), 2U);
  EXPECT_EQ(client.port.verdicts[0], (Record::Verdict{1, false, ruling(abi::Ruling::let)}))
      << "several do not authorize the flow: later ones would overtake them";
  EXPECT_EQ(client.port.verdicts[1].id, 2U) << "in order";
  EXPECT_EQ(client.port.order, (std::vector<std::string>{"send", "send", "release", "release"}))
      << "PROOF is sent first";
  const Packet proof = client.port.take();
  EXPECT_TRUE(server.arrive(proof).drop);
  EXPECT_EQ(server.port.verdicts,
            (std::vector<Record::Verdict>{{2, false, ruling(abi::Ruling::let)}}));
  const Packet ready = server.port.take();
  EXPECT_LE(ready.size(), proof.size());
  EXPECT_EQ(server.arrive(data()).priority, ruling(abi::Ruling::let)) << "right behind PROOF";
  pass(4);
  EXPECT_EQ(server.arrive(data()).priority, ruling(abi::Ruling::authorize, 1000));
  EXPECT_EQ(client.leave(data()).priority, ruling(abi::Ruling::authorize, 1000));
  EXPECT_TRUE(client.arrive(ready, abi::kReplies).drop);
  pass(5'000);
  EXPECT_TRUE(client.port.sent.empty()) << "READY ends the repetition of PROOF";
  EXPECT_TRUE(client.events.empty() && server.events.empty());
}

TEST_F(DatagramTest, IPv6) {
  ends = {address("fd00::1"), address("fd00::2"), 40'000, 53};
  back = {ends.destination, ends.source, ends.destination_port, ends.source_port};
  authorize();
  EXPECT_EQ(client.port.verdicts.size(), 1U);
}

TEST_F(DatagramTest, EveryMessageMayBeLost) {
  const Packet first = hello();
  pass(100);
  const Packet second = client.port.take();
  EXPECT_EQ(first, second) << "the same HELLO again";
  const auto lost = server.take_hello(second, abi::kFresh);
  pass(150);
  const auto reply = server.take_hello(client.port.take());
  ASSERT_TRUE(lost && reply);
  EXPECT_EQ(*lost, *reply) << "the same bytes: no key seals two texts";
  EXPECT_TRUE(client.arrive(*reply, abi::kReplies).drop);
  std::ignore = client.port.take();  // PROOF is lost
  EXPECT_TRUE(server.arrive(data()).hold);
  pass(100);
  EXPECT_TRUE(server.arrive(client.port.take()).drop);
  EXPECT_EQ(server.port.verdicts.size(), 1U);
  std::ignore = server.port.take();  // READY is lost
  pass(150);
  EXPECT_TRUE(server.arrive(client.port.take()).drop);
  EXPECT_TRUE(client.arrive(server.port.take(), abi::kReplies).drop);
  pass(10'000);
  EXPECT_TRUE(client.port.sent.empty());
  EXPECT_EQ(client.engine->statistics().authorized, 1U);
  EXPECT_EQ(server.engine->statistics().authorized, 1U);
}

TEST_F(DatagramTest, DuplicatesAreHarmless) {
  const Packet asked = hello();
  const auto reply = server.take_hello(asked, abi::kFresh);
  EXPECT_EQ(server.take_hello(asked), reply);
  EXPECT_TRUE(client.arrive(*reply, abi::kReplies).drop);
  EXPECT_TRUE(client.arrive(*reply, abi::kReplies).drop);
  const Packet proof = client.port.take();
  EXPECT_TRUE(server.arrive(proof).drop);
  EXPECT_TRUE(server.arrive(proof).drop);
  EXPECT_FALSE(server.take_hello(asked)) << "a late HELLO of a handshake that is complete";
  const Packet ready = server.port.take();
  EXPECT_TRUE(client.arrive(ready, abi::kReplies).drop);
  EXPECT_TRUE(client.arrive(ready, abi::kReplies).drop);
  EXPECT_EQ(client.port.verdicts.size(), 1U);
  EXPECT_EQ(server.engine->statistics().authorized, 1U);
}

TEST_F(DatagramTest, SilenceIsRefusedAfterThreeSecondsWithPauses) {
  std::ignore = hello();
  int hellos = 1;
  int waited = 0;
  while (client.port.verdicts.empty() && waited < 10'000) {
    client.pass(50);
    waited += 50;
    hellos += static_cast<int>(client.port.sent.size());
    client.port.sent.clear();
  }
  EXPECT_EQ(waited, 3'000);
  EXPECT_EQ(hellos, 7);
  EXPECT_EQ(client.port.verdicts.front().priority, ruling(abi::Ruling::refuse));
  EXPECT_EQ(client.refused(Reason::no_answer), 1U);
  EXPECT_EQ(client.events.back().protocol, 17);
  EXPECT_EQ(client.leave(data()).priority, ruling(abi::Ruling::refuse))
      << "no HELLO again immediately";
  EXPECT_TRUE(client.port.sent.empty());
  client.pass(1'000);
  EXPECT_TRUE(client.leave(data()).hold) << "but after a pause";
  client.port.sent.clear();
  client.pass(900);
  for (int i = 0; i < 10; i++) {
    client.pass(500);
  }
  EXPECT_EQ(client.port.verdicts.size(), 2U);
  client.port.sent.clear();
  EXPECT_EQ(client.leave(data()).priority, ruling(abi::Ruling::refuse));
}

TEST_F(DatagramTest, APeerThatPolicyAllowsWithoutProofWaitsLess) {
  client.set_policy(without_proof("*"));
  std::ignore = hello();
  for (int waited = 0; waited < 900; waited += 50) {
    EXPECT_TRUE(client.port.verdicts.empty());
    client.pass(50);
  }
  EXPECT_EQ(client.port.verdicts,
            (std::vector<Record::Verdict>{{1, false, ruling(abi::Ruling::authorize)}}));
  client.port.sent.clear();
  ends.source_port++;
  EXPECT_EQ(client.leave(data(), abi::kFresh).priority, ruling(abi::Ruling::authorize))
      << "the next flow does not wait";
  EXPECT_TRUE(client.port.sent.empty());
  client.pass(61'000);
  ends.source_port++;
  EXPECT_EQ(client.leave(data(), abi::kFresh).priority, ruling(abi::Ruling::authorize));
  EXPECT_EQ(client.port.sent.size(), 1U)
      << "this one does not wait either, but HELLO is sent again";
}

/// Although policy would allow its labels without proof.
TEST_F(DatagramTest, AWorkloadThatEndsWhileItsHelloWaitsIsRefused) {
  client.set_policy(without_proof("app=web"));
  const auto identity = [](const std::string& labels) {
    return std::make_shared<const LocalIdentity>(End::kNumber, label_set(labels));
  };
  for (const std::string next : {"", "app=other", "app=web"}) {
    client.engine->add_local(identity("app=web"));
    ends.source_port++;
    client.port.verdicts.clear();
    std::ignore = hello();
    client.engine->remove_local(End::kNumber);
    if (!next.empty()) {
      client.engine->add_local(identity(next));  // another workload has the number now
    }
    for (int waited = 0; waited < 4000; waited += 50) {
      client.pass(50);
    }
    ASSERT_EQ(client.port.verdicts.size(), 1U) << next;
    EXPECT_EQ(client.port.verdicts.front().priority, ruling(abi::Ruling::refuse)) << next;
    EXPECT_EQ(client.events.back().reason, Reason::unknown_workload) << next;
    ASSERT_NE(client.events.back().self, nullptr);
    EXPECT_EQ(client.events.back().self->labels, label_set("app=web")) << "not the next one's";
    client.port.sent.clear();
  }
  EXPECT_EQ(client.refused(Reason::unknown_workload), 3U);
}

/// A flow that was allowed without proof was allowed for the labels at that time.
TEST_F(DatagramTest, AFlowWithoutProofEndsWithItsWorkload) {
  client.set_policy(without_proof("*"));
  std::ignore = hello();
  for (int waited = 0; waited < 1000; waited += 50) {
    client.pass(50);
  }
  EXPECT_EQ(client.leave(data()).priority, ruling(abi::Ruling::authorize));
  client.engine->remove_local(End::kNumber);
  client.engine->add_local(
      std::make_shared<const LocalIdentity>(End::kNumber, label_set("app=other")));
  EXPECT_EQ(client.leave(data()).priority, ruling(abi::Ruling::refuse));
}

TEST_F(DatagramTest, PolicyIsAskedAboutUdp) {
  policy::Policy policy;
  policy::Rule rule;
  rule.action = policy::Rule::Action::deny;
  rule.from.emplace_back(policy::Selector::parse("*").value());
  rule.to.emplace_back(policy::Selector::parse("*").value());
  rule.ports.push_back({17, 53, 53});
  policy.rules.push_back(rule);
  const Packet asked = hello();
  server.set_policy(policy);
  const Answer refused = server.arrive(asked, abi::kFresh);
  EXPECT_TRUE(refused.awaits) << "REFUSAL";
  EXPECT_EQ(server.events.back().reason, Reason::policy);
  server.set_policy({});
  const auto reply = server.take_hello(asked, abi::kFresh);
  client.set_policy(policy);
  EXPECT_TRUE(client.arrive(*reply, abi::kReplies).drop);
  EXPECT_EQ(client.port.verdicts,
            (std::vector<Record::Verdict>{{1, false, ruling(abi::Ruling::refuse)}}));
  EXPECT_EQ(client.refused(Reason::policy), 1U);
}

TEST_F(DatagramTest, AFlowIsRenewedWithoutBeingDisturbed) {
  authorize();
  client.port.changes.clear();
  client.pass(1'500);
  EXPECT_EQ(client.leave(data(), abi::kRenew).priority, ruling(abi::Ruling::pass))
      << "the datagram passes";
  ASSERT_EQ(client.port.changes.size(), 1U);
  EXPECT_EQ(client.port.changes[0].second, FlowChange::renewed);
  EXPECT_EQ(client.leave(data(), abi::kRenew).priority, ruling(abi::Ruling::pass));
  EXPECT_EQ(client.port.sent.size(), 1U) << "one HELLO, however many datagrams request a renewal";
  Host fresh(psk_trust("b", kSecret), "app=web");
  const auto reply = fresh.take_hello(client.port.take(), abi::kFresh);
  ASSERT_TRUE(reply);
  EXPECT_TRUE(fresh.arrive(data()).hold);
  EXPECT_TRUE(client.arrive(*reply, abi::kReplies).drop);
  EXPECT_TRUE(fresh.arrive(client.port.take()).drop);
  EXPECT_EQ(fresh.port.verdicts.size(), 1U) << "the held datagram is released";
}

TEST_F(DatagramTest, ARenewalWithoutAnswerEndsTheFlow) {
  authorize();
  client.pass(1'500);
  EXPECT_EQ(client.leave(data(), abi::kRenew).priority, ruling(abi::Ruling::pass));
  client.port.changes.clear();
  for (int i = 0; i < 100; i++) {
    client.pass(50);
  }
  ASSERT_EQ(client.port.changes.size(), 1U);
  EXPECT_EQ(client.port.changes[0], (std::pair{ends, FlowChange::withdraw}));
  EXPECT_EQ(client.refused(Reason::no_answer), 1U);
}

TEST_F(DatagramTest, WhoTakesTheClientsPortsWaitsUntilTheServerHasForgotten) {
  authorize();
  EXPECT_TRUE(client.give(data("taken"), true, abi::kTakenOver, 1).drop);
  EXPECT_TRUE(client.port.changes.empty()) << "not before the server has confirmed";
  const Packet closing = client.port.take();
  EXPECT_EQ(client.port.numbers.back(), abi::kControlPriority) << "its flow gets no label";
  const auto reply = server.take_hello(closing);
  ASSERT_TRUE(reply);
  EXPECT_TRUE(client.give(*reply, false, abi::kTakenOver | abi::kReplies, 1).drop);
  EXPECT_TRUE(server.port.changes.empty()) << "not on HELLO alone";
  EXPECT_TRUE(server.arrive(client.port.take()).drop);
  EXPECT_EQ(server.port.changes, (std::vector{std::pair{ends, FlowChange::withdraw},
                                              std::pair{ends, FlowChange::forget}}));
  EXPECT_EQ(server.port.sent_before_changes, (std::vector<std::size_t>{0, 1}))
      << "nothing passes any more when READY, a packet of the flow, arrives";
  EXPECT_TRUE(client.give(server.port.take(), false, abi::kTakenOver | abi::kReplies, 1).drop);
  EXPECT_EQ(client.port.changes, (std::vector{std::pair{ends, FlowChange::forget}}));
  EXPECT_EQ(server.arrive(data()).priority, ruling(abi::Ruling::refuse))
      << "a closing handshake does not authorize the flow";
}

TEST_F(DatagramTest, AWorkloadThatTakesTheClientsPortsWaitsAndBeginsAFlowOfItsOwn) {
  constexpr policy::Number kNext = 78;
  client.engine->add_local(std::make_shared<const LocalIdentity>(kNext, label_set("app=web")));
  authorize();
  client.port.verdicts.clear();
  EXPECT_TRUE(client.give(data("one"), true, abi::kTakenOver, kNext).hold);
  EXPECT_TRUE(client.give(data("two"), true, abi::kTakenOver, kNext).hold);
  EXPECT_TRUE(client.give(data("host"), true, abi::kTakenOver, 1).drop) << "yet another socket";
  const auto reply = server.take_hello(client.port.take());
  ASSERT_TRUE(reply);
  EXPECT_TRUE(client.give(*reply, false, abi::kTakenOver | abi::kReplies, kNext).drop);
  EXPECT_TRUE(server.arrive(client.port.take()).drop);
  EXPECT_TRUE(client.port.verdicts.empty());
  EXPECT_TRUE(client.give(server.port.take(), false, abi::kTakenOver | abi::kReplies, kNext).drop);
  EXPECT_EQ(client.port.changes, (std::vector{std::pair{ends, FlowChange::forget}}))
      << "before its own HELLO";
  const Packet asked = client.port.take();
  EXPECT_EQ(client.port.numbers.back(), abi::kControlPriority | kNext);
  const auto answered = server.take_hello(asked, abi::kFresh);
  ASSERT_TRUE(answered);
  EXPECT_TRUE(client.arrive(*answered).drop);
  EXPECT_EQ(client.port.verdicts.size(), 2U) << "the held datagrams are released";
  EXPECT_FALSE(client.port.verdicts[0].drop);
  EXPECT_TRUE(server.arrive(client.port.take()).drop);
  EXPECT_NE(server.arrive(data("one")).priority, ruling(abi::Ruling::refuse));
}

TEST_F(DatagramTest, WhoGetsTheClientsPortsWhenConntrackHasForgottenWaitsToo) {
  authorize();
  client.pass(120'000);
  EXPECT_TRUE(client.give(data("one"), true, abi::kFresh | abi::kTakenOver, abi::kHost).hold);
  EXPECT_TRUE(client.give(data("two"), true, abi::kTakenOver, abi::kHost).hold)
      << "in the entry of HELLO";
  const auto reply = server.take_hello(client.port.take());
  EXPECT_EQ(client.port.numbers.back(), abi::kControlPriority | abi::kHost)
      << "REPLY has to be found";
  ASSERT_TRUE(reply);
  client.port.verdicts.clear();
  EXPECT_TRUE(client.give(*reply, false, abi::kTakenOver | abi::kReplies, abi::kHost).drop);
  EXPECT_TRUE(server.arrive(client.port.take()).drop);
  EXPECT_EQ(server.port.changes, (std::vector{std::pair{ends, FlowChange::withdraw},
                                              std::pair{ends, FlowChange::forget}}));
  EXPECT_TRUE(client.port.verdicts.empty());
  EXPECT_TRUE(
      client.give(server.port.take(), false, abi::kTakenOver | abi::kReplies, abi::kHost).drop);
  ASSERT_EQ(client.port.verdicts.size(), 2U) << "the held datagrams are released as unlabeled";
  EXPECT_EQ(client.port.verdicts[0].priority, ruling(abi::Ruling::exempt));
  EXPECT_EQ(client.give(data("later"), true, abi::kFresh | abi::kTakenOver, abi::kHost).priority,
            ruling(abi::Ruling::exempt))
      << "and later ones need no verifier";
}

TEST_F(DatagramTest, AWorkloadThatMayHaveThePeerByAddressEndsTheFormerFlowFirst) {
  constexpr policy::Number kNext = 78;
  client.engine->add_local(std::make_shared<const LocalIdentity>(kNext, label_set("app=next")));
  policy::Policy policy;
  policy::Rule rule;
  rule.from.emplace_back(policy::Selector::parse("app=next").value());
  rule.to.emplace_back(policy::Entity{.kind = policy::Entity::Kind::world});
  policy.rules.push_back(rule);
  client.set_policy(policy);
  authorize();
  client.pass(120'000);
  EXPECT_TRUE(client.give(data("one"), true, abi::kFresh, kNext).hold);
  const Packet closing = client.port.take();
  EXPECT_EQ(parsed(closing).payload()[11] & wire::kClosing, wire::kClosing);
  client.port.verdicts.clear();
  for (int i = 0; i < 100; i++) {  // the server does not answer
    client.pass(50);
  }
  ASSERT_EQ(client.port.verdicts.size(), 1U);
  EXPECT_EQ(client.port.verdicts[0].priority, ruling(abi::Ruling::refuse))
      << "otherwise it would arrive as the former client's";
  client.pass(60'000);
  EXPECT_TRUE(client.give(data("again"), true, 0, kNext).hold) << "and closes the flow again";
}

TEST_F(DatagramTest, AHelloThatCameWithTheEntryOfTheFlowThatWasEndedIsRepeated) {
  authorize();
  EXPECT_TRUE(client.give(data("taken"), true, abi::kTakenOver, 1).drop);
  const auto reply = server.take_hello(client.port.take());
  EXPECT_TRUE(client.give(*reply, false, abi::kTakenOver | abi::kReplies, 1).drop);
  EXPECT_TRUE(server.arrive(client.port.take()).drop);
  Host other(psk_trust("a", kSecret), "app=web");
  EXPECT_TRUE(other.leave(data(), abi::kFresh).hold);
  const Packet asked = other.port.take();
  EXPECT_TRUE(server.arrive(asked).drop) << "not the first datagram of an entry";
  EXPECT_TRUE(server.take_hello(asked, abi::kFresh));
}

TEST_F(DatagramTest, WhatWaitsForAClosingThatNobodyAnswersIsRefused) {
  constexpr policy::Number kNext = 78;
  client.engine->add_local(std::make_shared<const LocalIdentity>(kNext, label_set("app=web")));
  authorize();
  client.port.verdicts.clear();
  ASSERT_TRUE(client.give(data("one"), true, abi::kTakenOver, kNext).hold);
  for (int i = 0; i < 70; i++) {
    client.pass(50);
  }
  ASSERT_EQ(client.port.verdicts.size(), 1U);
  EXPECT_EQ(client.port.verdicts[0].priority, ruling(abi::Ruling::refuse));
  EXPECT_TRUE(client.give(data("one"), true, abi::kTakenOver, kNext).drop) << "for a second";
}

TEST_F(DatagramTest, AnotherSocketOnTheServersPortGetsNothing) {
  authorize();
  for (const policy::Number number : {policy::Number{1}, policy::Number{78}}) {
    EXPECT_EQ(server.give(data(), false, abi::kTakenOver, number).priority,
              ruling(abi::Ruling::refuse));
    EXPECT_EQ(server.give(answer_data(), true, abi::kTakenOver | abi::kReplies, number).priority,
              ruling(abi::Ruling::refuse));
  }
  EXPECT_TRUE(server.port.changes.empty());
  EXPECT_EQ(server.events.back().reason, Reason::taken_over);
}

TEST_F(DatagramTest, InAuditModeEverythingPassesAndIsTold) {
  policy::Policy audit;
  audit.mode = policy::Mode::audit;
  audit.baseline = policy::Baseline::none;
  client.set_policy(audit);
  server.set_policy(audit);
  authorize();
  EXPECT_EQ(client.port.verdicts.front().priority, ruling(abi::Ruling::audit, 1000));
  pass(4);
  EXPECT_EQ(server.arrive(data()).priority, ruling(abi::Ruling::audit, 1000));
  EXPECT_EQ(client.events.back().verdict, policy::Verdict::audit);
  ends.source_port++;
  std::ignore = hello();
  for (int i = 0; i < 20; i++) {
    client.pass(50);
  }
  EXPECT_EQ(client.port.verdicts.back().priority, ruling(abi::Ruling::audit)) << "a silent peer";
  EXPECT_EQ(client.events.back().reason, Reason::no_answer);
}

/// The peer has proved labels, so rules for peers without labels do not apply to it.
TEST_F(DatagramTest, WhatAuditModeLetThroughIsNoFlowWithoutProof) {
  policy::Policy audit;
  audit.mode = policy::Mode::audit;
  client.set_policy(audit);
  const auto identity = std::make_shared<const LocalIdentity>(End::kNumber, label_set("app=web"));
  client.engine->add_local(identity);
  const auto reply = server.take_hello(hello(), abi::kFresh);
  client.engine->remove_local(End::kNumber);
  EXPECT_TRUE(client.arrive(*reply, abi::kReplies).drop);
  EXPECT_EQ(client.events.back().reason, Reason::unknown_workload);
  EXPECT_EQ(client.leave(data()).priority, ruling(abi::Ruling::audit));
  client.engine->add_local(identity);
  client.set_policy(without_proof("*"));
  EXPECT_EQ(client.leave(data()).priority, ruling(abi::Ruling::refuse));
}

TEST_F(DatagramTest, ThePointsEndTakesWhatWaitedWithIt) {
  std::ignore = hello();
  client.engine->forget_point(0);
  client.pass(5'000);
  EXPECT_TRUE(client.port.verdicts.empty()) << "its queue no longer exists";
  EXPECT_EQ(client.engine->statistics().handshakes, 0U);
}

TEST_F(DatagramTest, ADatagramThatIsFollowedDoesNotAuthorize) {
  client.port.followed = server.port.followed = true;
  authorize();
  EXPECT_EQ(client.port.verdicts,
            (std::vector<Record::Verdict>{{1, false, ruling(abi::Ruling::let)}}))
      << "one datagram, but more are queued behind it";
  pass(4);
  for (Host* each : {&client, &server}) {
    const auto again = [&] {
      return each == &client ? each->leave(data()).priority : each->arrive(data()).priority;
    };
    EXPECT_EQ(again(), ruling(abi::Ruling::let));
    each->port.followed = false;
    EXPECT_EQ(again(), ruling(abi::Ruling::authorize, 1000));
    each->port.followed = true;
    each->pass(100);
    EXPECT_EQ(again(), ruling(abi::Ruling::authorize, 1000)) << "the flow is authorized in the end";
  }
}

}  // namespace
}  // namespace trireme::handshake
