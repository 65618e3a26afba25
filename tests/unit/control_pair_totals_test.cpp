// SPDX-License-Identifier: Apache-2.0
// Counts for each pair of identities, in bounded memory.
#include "trireme/control/pair_totals.hpp"

#include <gmock/gmock.h>

#include <string>

namespace trireme::control {
namespace {

using policy::Verdict;
using ::testing::ElementsAre;
using ::testing::SizeIs;
using Key = PairTotals::Key;

const PairTotals::Time kNoon{std::chrono::hours(12)};

FlowEnd identity(const std::string& app, const std::string& name = "x.scope") {
  FlowEnd end;
  end.labels.emplace();
  EXPECT_TRUE(end.labels->set("app", app));
  end.workload = name;
  return end;
}

FlowEnd entity(const std::string& name, std::vector<std::string> networks = {}) {
  FlowEnd end;
  end.entity = name;
  end.networks = std::move(networks);
  return end;
}

Flow flow(FlowEnd from, FlowEnd to, Verdict verdict = Verdict::deny) {
  Flow made;
  made.time = kNoon;
  made.source = std::move(from);
  made.destination = std::move(to);
  made.verdict = verdict;
  return made;
}

PairTotals::Totals totals(const PairTotals& pairs, const Key& key) {
  for (const PairTotals::Pair& pair : pairs.newest()) {
    if (*pair.key == key) {
      return *pair.totals;
    }
  }
  ADD_FAILURE() << "no pair " << key.from << " -> " << key.to;
  return {};
}

TEST(PairTotals, EndsAreNamedAsInFlows) {
  EXPECT_EQ(identity_text(identity("web")), "app=web");
  FlowEnd end = identity("web");
  end.labels.emplace();
  EXPECT_EQ(identity_text(end), "(no labels)");
  EXPECT_EQ(identity_text(entity("@host", {"lan"})), "@host");
  EXPECT_EQ(identity_text(entity("@world")), "@world");
  EXPECT_EQ(identity_text(entity("@world", {"dns", "corp"})), "@dns,@corp");
  end = {};
  end.quarantined = true;
  EXPECT_EQ(identity_text(end), "(quarantined)");
}

TEST(PairTotals, FlowsAreCountedByVerdictAndIdentity) {
  PairTotals pairs;
  pairs.count(flow(identity("web", "a.scope"), identity("db")));
  pairs.count(flow(identity("web", "b.scope"), identity("db")));
  pairs.count(flow(identity("web"), identity("db"), Verdict::allow));
  pairs.count(flow(identity("web"), identity("db"), Verdict::audit));
  pairs.count(flow(identity("db"), identity("web")));
  ASSERT_THAT(pairs.newest(), SizeIs(2));
  const auto found = totals(pairs, {"app=web", "app=db"});
  EXPECT_EQ(found.denied, 2U);
  EXPECT_EQ(found.allowed, 1U);
  EXPECT_EQ(found.audited, 1U);
  EXPECT_EQ(found.last, kNoon);
  EXPECT_EQ(found.bytes, std::nullopt) << "no connection was seen";
  EXPECT_EQ(totals(pairs, {"app=db", "app=web"}).denied, 1U);
}

TEST(PairTotals, OpenConnectionsAreReplacedAndTheirBytesAdded) {
  PairTotals pairs;
  const Key key{"app=web", "app=db"};
  pairs.count(flow(identity("web"), identity("db")));
  pairs.set_open({{key, {.connections = 3, .bytes = 100, .owner = "workload x"}}}, kNoon);
  pairs.set_open({{key, {.connections = 2, .bytes = 50, .owner = "workload x"}}},
                 kNoon + std::chrono::seconds(1));
  EXPECT_EQ(totals(pairs, key).connections, 2U);
  EXPECT_EQ(totals(pairs, key).bytes, 150U);
  EXPECT_EQ(totals(pairs, key).last, kNoon + std::chrono::seconds(1));
  pairs.set_open({}, kNoon + std::chrono::seconds(2));
  EXPECT_EQ(totals(pairs, key).connections, 0U);
  EXPECT_EQ(totals(pairs, key).bytes, 150U);
  EXPECT_EQ(totals(pairs, key).denied, 1U);
  EXPECT_EQ(totals(pairs, key).last, kNoon + std::chrono::seconds(1));
}

TEST(PairTotals, TheOldestPairMakesRoom) {
  PairTotals pairs({.pairs = 2});
  for (const char* from : {"a", "b", "a", "c"}) {
    pairs.count(flow(identity(from, from), identity("db")));
  }
  std::vector<std::string> left;
  for (const PairTotals::Pair& pair : pairs.newest()) {
    left.push_back(pair.key->from);
  }
  EXPECT_THAT(left, ElementsAre("app=c", "app=a"));
  EXPECT_EQ(pairs.forgotten(), 1U);
}

TEST(PairTotals, TextsAreBounded) {
  PairTotals pairs({.pairs = 1000, .bytes = 10'000});
  for (int i = 0; i < 100; ++i) {
    const std::string name = std::to_string(i);
    pairs.count(flow(identity(name + std::string(1000, 'x'), name), identity("db")));
  }
  EXPECT_LE(pairs.newest().size(), 9U);
}

/// A remote host that vouches for ever new label sets, or a scan, displaces its own pairs only.
TEST(PairTotals, OneOwnerHasAShare) {
  PairTotals pairs({.pairs = 80});
  pairs.count(flow(identity("web"), identity("db")));
  for (int i = 0; i < 1000; ++i) {
    FlowEnd remote = identity("fake" + std::to_string(i));
    remote.host = "evil-1";
    pairs.count(flow(remote, identity("db")));
    pairs.count(flow(entity("@world"), identity("db" + std::to_string(i))));
  }
  EXPECT_THAT(pairs.newest(), SizeIs(21));
  EXPECT_EQ(totals(pairs, {"app=web", "app=db"}).denied, 1U);
  EXPECT_EQ(pairs.forgotten(), 2U * 990U);
}

}  // namespace
}  // namespace trireme::control
