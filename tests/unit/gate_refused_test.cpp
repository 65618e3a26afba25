// SPDX-License-Identifier: Apache-2.0
// The refused packets that the gate reports.
#include <netinet/in.h>

#include <gmock/gmock.h>

#include <algorithm>

#include "gate_support.hpp"

namespace trireme::gate {
namespace {

using ::testing::SizeIs;
using Reason = Refused::Reason;

class RefusedTest : public GateTest {
 protected:
  [[nodiscard]] std::vector<Refused> of(policy::Number from) {
    std::vector<Refused> all = gate_->take_refused();
    std::erase_if(all, [from](const Refused& refused) { return refused.from != from; });
    return all;
  }
};

TEST_F(RefusedTest, TellsOncePerEndsAndPort) {
  const std::string web = workload("web", "web");
  const std::string db = workload("db", "db");
  for (const int family : {AF_INET, AF_INET6}) {
    const Fd listener = listen_in(db, family);
    for (int i = 0; i < 3; i++) {
      EXPECT_NE(connect_from(web, listener).error, 0);
    }
    const auto reports = of(numbers_.at(web));
    ASSERT_THAT(reports, SizeIs(1));
    EXPECT_EQ(reports[0].reason, Reason::policy);
    EXPECT_EQ(reports[0].to, numbers_.at(db));
    EXPECT_EQ(reports[0].protocol, IPPROTO_TCP);
    EXPECT_EQ(reports[0].port, port_of(listener));
    EXPECT_EQ(reports[0].source.text(), family == AF_INET ? "127.0.0.1" : "::1");
    EXPECT_EQ(reports[0].destination, reports[0].source);
    EXPECT_TRUE(reports[0].local);
    EXPECT_FALSE(reports[0].audited);
  }
  EXPECT_FALSE(exchanges(web, db));
  EXPECT_THAT(of(numbers_.at(web)), SizeIs(1)) << "another protocol";
}

TEST_F(RefusedTest, SaysWhy) {
  const std::string web = workload("web", "web");
  const std::string quarantined = make("quarantined");
  must(gate_->set(id(quarantined), abi::kQuarantine));
  EXPECT_FALSE(talks(plain_, quarantined));
  EXPECT_FALSE(talks(quarantined, plain_));
  EXPECT_FALSE(talks(home_, web));
  std::vector<Reason> reasons;
  for (const Refused& refused : gate_->take_refused()) {
    reasons.push_back(refused.reason);
  }
  EXPECT_THAT(reasons, ::testing::UnorderedElementsAre(Reason::quarantine_in,
                                                       Reason::quarantine_out, Reason::unstamped));
}

/// The number of all workloads in quarantine is the same, so the cgroup tells which one it was.
TEST_F(RefusedTest, TellsTheCgroupOfTheSocket) {
  const std::string web = workload("web", "web");
  const std::string quarantined = make("quarantined");
  const std::string inner = make("quarantined/inner");
  must(gate_->set(id(quarantined), abi::kQuarantine));
  EXPECT_FALSE(talks(plain_, inner));
  const auto in = gate_->take_refused();
  ASSERT_THAT(in, SizeIs(1));
  EXPECT_EQ(in[0].reason, Reason::quarantine_in);
  EXPECT_EQ(in[0].cgroup, id(quarantined)) << "not the inner one, which has no number";
  EXPECT_FALSE(talks(inner, web));
  const auto out = gate_->take_refused();
  ASSERT_THAT(out, SizeIs(1));
  EXPECT_EQ(out[0].reason, Reason::quarantine_out);
  EXPECT_EQ(out[0].cgroup, id(quarantined));
}

/// A workload that has ended is not in quarantine: nobody would find the one that is.
TEST_F(RefusedTest, AWorkloadThatHasEndedIsNotReportedAsQuarantined) {
  const std::string a = workload("a", "web");
  const std::string b = workload("b", "web");
  const Fd listener = listen_in(a);
  const Connection made = connect_from(b, listener);
  ASSERT_TRUE(passes(made.client, made.server));
  const std::uint64_t gone = id(a);
  ASSERT_TRUE(tree_->remove(a)) << "the test still has its sockets";
  must(gate_->end(gone));
  std::ignore = gate_->take_refused();
  EXPECT_FALSE(passes(made.client, made.server));
  auto reports = gate_->take_refused();
  ASSERT_FALSE(reports.empty());
  EXPECT_TRUE(std::ranges::all_of(reports, [](const Refused& refused) {
    return refused.reason == Reason::ended && refused.to == abi::kEnded;
  }));
  EXPECT_EQ(reports[0].cgroup, gone);
  EXPECT_FALSE(passes(made.server, made.client));
  reports = gate_->take_refused();
  ASSERT_FALSE(reports.empty());
  EXPECT_TRUE(std::ranges::any_of(reports, [](const Refused& refused) {
    return refused.reason == Reason::ended && refused.from == abi::kEnded;
  }));
  const Refusals counts = gate_->refusals().value_or(Refusals{});
  EXPECT_GT(counts.ended, 0U);
  EXPECT_EQ(counts.quarantine_in + counts.quarantine_out, 0U);
}

/// Audit mode lets nothing pass to or from what was a workload.
TEST_F(RefusedTest, AuditModeDoesNotOpenAWorkloadThatHasEnded) {
  const std::string a = workload("a", "web");
  const std::string b = workload("b", "web");
  policy::Policy policy;
  policy.mode = policy::Mode::audit;
  load(policy);
  const Connection made = connect_from(b, listen_in(a));
  ASSERT_TRUE(passes(made.client, made.server));
  const std::uint64_t gone = id(a);
  ASSERT_TRUE(tree_->remove(a));
  must(gate_->end(gone));
  EXPECT_FALSE(passes(made.client, made.server));
  EXPECT_FALSE(passes(made.server, made.client));
  for (const Refused& refused : gate_->take_refused()) {
    EXPECT_FALSE(refused.audited && refused.reason == Reason::ended);
  }
}

TEST_F(RefusedTest, AuditedOnesPassed) {
  const std::string web = workload("web", "web");
  policy::Policy policy;
  policy.mode = policy::Mode::audit;
  load(policy);
  EXPECT_TRUE(talks(plain_, web));
  const auto reports = of(1);
  ASSERT_FALSE(reports.empty());
  EXPECT_TRUE(std::ranges::all_of(reports, &Refused::audited));
}

/// A refused answer is reported as the flow that it belongs to.
TEST_F(RefusedTest, TellsOfBothDirectionsOfAConnectionAsOne) {
  const std::string web = workload("web", "web");
  const std::string db = workload("db", "db");
  policy::Policy open;
  open.rules.push_back(allow(workloads("app=web"), workloads("app=db")));
  load(open);
  const Fd listener = listen_in(db, AF_INET, 5432);
  const Connection made = connect_from(web, listener);
  ASSERT_TRUE(passes(made.client, made.server));
  load({});
  EXPECT_FALSE(passes(made.server, made.client));
  EXPECT_FALSE(passes(made.client, made.server));
  const auto reports = gate_->take_refused();
  ASSERT_THAT(reports, SizeIs(1));
  EXPECT_EQ(reports[0].from, numbers_.at(web));
  EXPECT_EQ(reports[0].to, numbers_.at(db));
  EXPECT_EQ(reports[0].port, 5432);
}

TEST_F(RefusedTest, OneSenderLeavesRoomForOthers) {
  const std::string flood = workload("flood", "flood");
  const std::string web = workload("web", "web");
  const std::string db = workload("db", "db");
  const Fd listener = listen_in(db, AF_INET);
  const Fd fd = socket_in(flood, AF_INET, SOCK_DGRAM);
  std::vector<Fd> servers;
  for (int i = 0; i < 200; i++) {
    servers.push_back(socket_in(db, AF_INET, SOCK_DGRAM));
    ASSERT_EQ(bind(servers.back(), 0), 0);
    const sockaddr_storage there = loopback(AF_INET, port_of(servers.back()));
    ::sendto(fd.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&there), sizeof there);
  }
  EXPECT_NE(connect_from(web, listener).error, 0);
  const auto reports = gate_->take_refused();
  const auto from = [&reports](policy::Number number) {
    return std::ranges::count(reports, number, &Refused::from);
  };
  EXPECT_EQ(from(numbers_.at(flood)), 32);
  EXPECT_EQ(from(numbers_.at(web)), 1);
  EXPECT_EQ(gate_->refusals().value_or(Refusals{}).policy, 200U + 1U);
}

/// All workloads in quarantine have the same number.
TEST_F(RefusedTest, OneInQuarantineLeavesRoomForOthers) {
  const std::string flood = make("flood");
  const std::string other = make("other");
  must(gate_->set(id(flood), abi::kQuarantine));
  must(gate_->set(id(other), abi::kQuarantine));
  const auto send = [](const Fd& from, std::uint16_t port) {
    const sockaddr_storage there = loopback(AF_INET, port);
    ::sendto(from.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&there), sizeof there);
  };
  const Fd scans = socket_in(flood, AF_INET, SOCK_DGRAM);
  constexpr std::uint16_t kFirst = 1000;
  for (std::uint16_t i = 0; i < 100; i++) {
    send(scans, static_cast<std::uint16_t>(kFirst + i));
  }
  const Fd sends = socket_in(other, AF_INET, SOCK_DGRAM);
  send(sends, kFirst);
  send(sends, kFirst);
  const auto out = gate_->take_refused();
  EXPECT_EQ(std::ranges::count(out, id(flood), &Refused::cgroup), 32);
  EXPECT_EQ(std::ranges::count(out, id(other), &Refused::cgroup), 1) << "the same port, once";

  // Towards others, from a sender without a number of its own. `flood` has used up its share.
  const std::string scanned = make("scanned");
  must(gate_->set(id(scanned), abi::kQuarantine));
  const Fd process = socket_in(plain_, AF_INET, SOCK_DGRAM);
  std::vector<Fd> servers;
  for (int i = 0; i < 101; i++) {
    servers.push_back(socket_in(i < 100 ? scanned : other, AF_INET, SOCK_DGRAM));
    ASSERT_EQ(bind(servers.back(), 0), 0);
    send(process, port_of(servers.back()));
  }
  const auto in = gate_->take_refused();
  EXPECT_EQ(std::ranges::count(in, id(scanned), &Refused::cgroup), 32);
  EXPECT_EQ(std::ranges::count(in, id(other), &Refused::cgroup), 1);
}

/// A workload that scans one in quarantine uses up its own share, not that of the scanned one.
TEST_F(RefusedTest, AScanOfOneInQuarantineLeavesRoomForOtherSenders) {
  const std::string scanner = workload("scanner", "scanner");
  const std::string web = workload("web", "web");
  const std::string quarantined = make("quarantined");
  must(gate_->set(id(quarantined), abi::kQuarantine));
  const Fd scans = socket_in(scanner, AF_INET, SOCK_DGRAM);
  std::vector<Fd> servers;
  for (int i = 0; i < 100; i++) {
    servers.push_back(socket_in(quarantined, AF_INET, SOCK_DGRAM));
    ASSERT_EQ(bind(servers.back(), 0), 0);
    const sockaddr_storage there = loopback(AF_INET, port_of(servers.back()));
    ::sendto(scans.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&there), sizeof there);
  }
  EXPECT_FALSE(exchanges(web, quarantined));
  const auto reports = gate_->take_refused();
  EXPECT_EQ(std::ranges::count(reports, numbers_.at(scanner), &Refused::from), 32);
  EXPECT_EQ(std::ranges::count(reports, numbers_.at(web), &Refused::from), 1);
}

}  // namespace
}  // namespace trireme::gate
