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

}  // namespace
}  // namespace trireme::gate
