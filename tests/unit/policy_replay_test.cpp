// SPDX-License-Identifier: Apache-2.0
// Which flows a change of policy or identity denies.
#include "trireme/policy/replay.hpp"

#include <gtest/gtest.h>

namespace trireme::policy {
namespace {

LabelSet app(std::string_view value) {
  LabelSet made;
  EXPECT_TRUE(made.set("app", value));
  return made;
}

class Replaying : public testing::Test {
 protected:
  static Rule allow(std::string_view from, std::string_view to, std::vector<PortRange> ports) {
    Rule rule;
    rule.from = {*Selector::parse(from)};
    rule.to = {*Selector::parse(to)};
    rule.ports = std::move(ports);
    rule.where = {"policy.toml", 3, 1};
    return rule;
  }
  static SeenFlow flow(const char* from, const char* to, std::uint16_t port) {
    SeenFlow made;
    made.from.labels = app(from);
    made.from.workload = from;
    made.to.labels = app(to);
    made.to.workload = to;
    made.protocol = 6;
    made.port = port;
    made.count = 1;
    return made;
  }
  static Resident resident(const char* name, const LabelSet& labels) {
    return {.key = std::string("/") + name, .name = name, .kind = "unit", .labels = labels};
  }

  Policy before_;
  Policy after_;
  IdentityDiff same_;
};

TEST_F(Replaying, CountsWhatOnlyTheNewPolicyDenies) {
  before_.rules = {allow("app=web", "app=db", {{6, 1, 2}})};
  after_.rules = {allow("app=web", "app=db", {{6, 1, 1}})};
  SeenFlow often = flow("web", "db", 2);
  often.count = 5;
  const Replay found =
      replay(before_, after_, same_, {flow("web", "db", 1), often, flow("web", "db", 3)}, false);
  EXPECT_EQ(found.flows, 7U);
  EXPECT_EQ(found.denied, 5U) << "the last is denied already";
  ASSERT_EQ(found.cuts.size(), 1U);
  EXPECT_EQ(found.cuts[0].flow.count, 5U);
  EXPECT_EQ(found.cuts[0].reason, "no rule allows it");
}

TEST_F(Replaying, AuditModeDeniesNothing) {
  after_.mode = Mode::audit;
  before_.rules = {allow("app=web", "app=db", {})};
  EXPECT_EQ(replay(before_, after_, same_, {flow("web", "db", 1)}, true).denied, 0U);
  EXPECT_EQ(replay(after_, Policy{}, same_, {flow("web", "db", 1)}, true).denied, 1U)
      << "and what only it let pass ends with it";
}

TEST_F(Replaying, AnOpenConnectionContinuesWhereItsAnswersAreAllowed) {
  before_.rules = {allow("app=web", "app=db", {{6, 80, 80}})};
  after_.rules = {allow("app=db", "app=web", {{6, 40000, 40001}})};
  SeenFlow open = flow("web", "db", 80);
  open.is_local = true;
  open.count = 3;
  open.client_ports = {40000, 40001, 40002};
  const Replay found = replay(before_, after_, same_, {open}, true);
  EXPECT_EQ(found.denied, 1U);
  EXPECT_EQ(found.cuts.at(0).flow.count, 1U);
  open.is_local = false;
  EXPECT_EQ(replay(before_, after_, same_, {open}, true).denied, 3U)
      << "the proof says which end began it";
  open.client_ports.clear();
  EXPECT_EQ(replay(before_, after_, same_, {open}, false).denied, 3U)
      << "a new connection is judged by its direction";
}

/// The other end has no labels, so nothing was proved.
TEST_F(Replaying, ToAnAddressEitherDirectionOfAnOpenConnectionIsEnough) {
  Rule to_world;
  to_world.from = {*Selector::parse("app=web")};
  to_world.to = {Entity{Entity::Kind::world, 0}};
  before_.rules = {to_world};
  Rule from_world = to_world;
  std::swap(from_world.from, from_world.to);
  from_world.ports = {{6, 40000, 40000}};
  after_.rules = {from_world};
  SeenFlow open = flow("web", "db", 80);
  open.to = {};
  open.to.address = Address::parse("192.0.2.1").value();
  open.count = 2;
  open.client_ports = {40000, 40001};
  EXPECT_EQ(replay(before_, after_, same_, {open}, true).denied, 1U);
}

TEST_F(Replaying, OtherLabelsCutConnections) {
  before_.rules = {allow("app=web", "app=db", {})};
  after_ = before_;
  IdentityDiff identity({resident("db", app("db"))}, {resident("db", app("cache"))});
  const Replay found = replay(before_, after_, identity, {flow("web", "db", 1)}, true);
  EXPECT_EQ(found.denied, 1U);
  EXPECT_EQ(found.cuts.at(0).identity,
            std::vector<std::string>{"db changes from app=db to app=cache"});
  EXPECT_EQ(identity.changes().at(0).live_cut, 1U);
  IdentityDiff again({resident("db", app("db"))}, {resident("db", app("cache"))});
  EXPECT_EQ(replay(before_, after_, again, {flow("web", "db", 1)}, false).denied, 1U);
  EXPECT_EQ(again.changes().at(0).live_cut, 0U) << "not an open connection";
}

TEST_F(Replaying, ANewWorkloadCutsConnectionsBetweenProcesses) {
  IdentityDiff identity({}, {resident("redis", app("db"))});
  SeenFlow open;
  open.from.host = open.to.host = true;
  open.to.cgroup = "/redis";
  open.is_local = true;
  open.protocol = 6;
  open.port = 6379;
  EXPECT_EQ(replay(before_, after_, identity, {open}, true).denied, 1U);
  EXPECT_EQ(replay(before_, after_, same_, {open}, true).denied, 0U) << "no policy applies";
  after_.mode = Mode::audit;
  EXPECT_EQ(replay(before_, after_, identity, {open}, true).denied, 0U);
}

TEST_F(Replaying, AWorkloadThatEndsTakesItsConnectionsWithIt) {
  before_.rules = {allow("app=web", "app=db", {})};
  after_ = before_;
  IdentityDiff identity({resident("db", app("db"))}, {});
  SeenFlow local = flow("web", "db", 1);
  local.is_local = true;
  EXPECT_EQ(replay(before_, after_, identity, {local}, true).denied, 1U)
      << "web may not reach @host";
  IdentityDiff both({resident("db", app("db")), resident("web", app("web"))}, {});
  EXPECT_EQ(replay(before_, after_, both, {local}, true).denied, 0U)
      << "no policy applies to either";
}

/// In another network namespace, the other end knows it by labels that it has no more.
TEST_F(Replaying, AWorkloadThatEndsKeepsNoConnectionInWhichItProvedLabels) {
  before_.rules = {allow("app=web", "app=db", {})};
  after_ = before_;
  Rule to_anybody;
  to_anybody.from = {*Selector::parse("app=web")};
  to_anybody.to = {Entity{Entity::Kind::world, 0}};
  after_.rules.push_back(to_anybody);
  SeenFlow open = flow("web", "db", 1);
  const auto found = [&](bool is_open) {
    IdentityDiff identity({resident("db", app("db"))}, {});
    return replay(before_, after_, identity, {open}, is_open);
  };
  ASSERT_EQ(found(true).denied, 1U) << "although its address is allowed";
  EXPECT_EQ(found(true).cuts.at(0).reason,
            "the labels were proved when the connection began, and an end has none any more");
  EXPECT_EQ(found(false).denied, 0U) << "a new one is judged by its address";
  open.protocol = 17;
  EXPECT_EQ(found(true).denied, 0U) << "the next datagram begins a new flow";
  open.protocol = 6;
  after_.mode = Mode::audit;
  EXPECT_EQ(found(true).denied, 0U);
}

TEST_F(Replaying, QuarantineCutsEverything) {
  before_.rules = {allow("app=web", "app=db", {})};
  after_ = before_;
  after_.mode = Mode::audit;
  Resident blocked = resident("db", app("db"));
  blocked.blocked = "too many labels";
  IdentityDiff identity({resident("db", app("db"))}, {blocked});
  const Replay found = replay(before_, after_, identity, {flow("web", "db", 1)}, true);
  EXPECT_EQ(found.denied, 1U) << "audit mode opens no quarantine";
  EXPECT_EQ(found.cuts.at(0).reason, "db would be quarantined");
}

/// An open connection of a process that becomes a workload, to a workload in another network
/// namespace.
TEST_F(Replaying, ANewWorkloadHasProvedNothingToOtherNetworks) {
  before_.baseline = after_.baseline = Baseline::same_labels;
  const Selector web = *Selector::parse("app=web");
  Network here{
      .name = "here", .cidrs = {*Prefix::parse("172.17.0.1/32")}, .names = {}, .where = {}};
  Network there = here;
  there.cidrs = {*Prefix::parse("172.17.0.2/32")};
  before_.networks = after_.networks = {here, there};
  Rule from_here;
  from_here.from = {Entity{Entity::Kind::network, 0}};
  from_here.to = {web};
  before_.rules = {from_here};
  after_.rules = before_.rules;
  SeenFlow open = flow("web", "web", 80);
  open.from.labels.reset();
  open.from.workload.clear();
  open.from.cgroup = "/web2";
  open.from.address = Address::parse("172.17.0.1").value();
  open.to.address = Address::parse("172.17.0.2").value();
  const auto denied = [&](const SeenFlow& seen) {
    IdentityDiff identity({resident("web", app("web"))},
                          {resident("web", app("web")), resident("web2", app("web"))});
    return replay(before_, after_, identity, {seen}, true).denied;
  };
  EXPECT_EQ(denied(open), 1U) << "its own end knows no labels of the other";
  SeenFlow datagrams = open;
  datagrams.protocol = 17;
  EXPECT_EQ(denied(datagrams), 0U) << "the next one proves the labels";
  after_.mode = Mode::audit;
  EXPECT_EQ(denied(open), 0U);
  after_.mode = Mode::enforce;
  Rule to_there;
  to_there.from = {web};
  to_there.to = {Entity{Entity::Kind::network, 1}};
  after_.rules.push_back(to_there);
  EXPECT_EQ(denied(open), 0U) << "both ends allow the address of the other";
}

/// A segment of a flow with a token, but without proof, is refused whatever the address, unless the
/// verifier knows the connection.
TEST_F(Replaying, AConnectionThatAskedForATokenEndsWithTheLabels) {
  Rule to_world;
  to_world.from = {*Selector::parse("*")};
  to_world.to = {Entity{Entity::Kind::world, 0}};
  before_.rules = after_.rules = {to_world};
  SeenFlow open = flow("web", "db", 80);
  open.to = {};
  open.to.address = Address::parse("192.0.2.1").value();
  const auto denied = [&](const std::vector<Resident>& residents) {
    IdentityDiff identity({resident("web", app("web"))}, residents);
    return replay(before_, after_, identity, {open}, true).denied;
  };
  EXPECT_EQ(denied({resident("web", app("web2"))}), 0U) << "the address is allowed";
  open.from.has_token = true;
  EXPECT_EQ(denied({resident("web", app("web2"))}), 1U);
  EXPECT_EQ(denied({}), 1U);
  EXPECT_EQ(denied({resident("web", app("web"))}), 0U) << "nothing changes";
  after_.mode = Mode::audit;
  EXPECT_EQ(denied({resident("web", app("web2"))}), 0U);
}

TEST_F(Replaying, LabelsThatWereProvedToOtherNetworksMayNotChange) {
  before_.baseline = after_.baseline = Baseline::same_labels;
  after_.rules = {allow("*", "*", {})};
  const auto denied = [&](const SeenFlow& seen) {
    IdentityDiff identity({resident("web", app("web"))}, {resident("web", app("web2"))});
    return replay(before_, after_, identity, {seen}, true).denied;
  };
  SeenFlow open = flow("web", "web", 1);
  open.to.workload = "far";
  EXPECT_EQ(denied(open), 1U);
  open.is_local = true;
  EXPECT_EQ(denied(open), 0U) << "the gate knows the labels of both";
  open.is_local = false;
  after_.mode = Mode::audit;
  EXPECT_EQ(denied(open), 0U);
}

TEST_F(Replaying, WithoutProofLabelsOfAnotherNetworkDoNotCount) {
  before_.baseline = after_.baseline = Baseline::same_labels;
  const NameIndex names(before_);
  SeenFlow open = flow("web", "web", 1);
  EXPECT_EQ(judge(before_, names, open).verdict, Verdict::allow);
  open.is_unproved = true;
  EXPECT_EQ(judge(before_, names, open).verdict, Verdict::deny);
}

TEST_F(Replaying, ARemoteHostProvedTheOldLabels) {
  before_.baseline = after_.baseline = Baseline::same_labels;
  SeenFlow open = flow("web", "web", 1);
  open.to.workload.clear();  // elsewhere
  IdentityDiff identity({resident("web", app("web"))}, {resident("web", app("web2"))});
  after_.rules = {allow("*", "*", {})};
  EXPECT_EQ(replay(before_, after_, identity, {open}, true).denied, 1U);
  EXPECT_EQ(replay(before_, after_, identity, {open}, false).denied, 0U)
      << "a new connection proves the new labels";
  open.protocol = 17;
  EXPECT_EQ(replay(before_, after_, identity, {open}, true).denied, 0U)
      << "so does the next datagram";
  after_.rules.clear();
  EXPECT_EQ(replay(before_, after_, identity, {open}, true).denied, 1U)
      << "which the policy may deny by the new labels";
}

}  // namespace
}  // namespace trireme::policy
