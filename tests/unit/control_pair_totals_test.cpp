// SPDX-License-Identifier: Apache-2.0
// Counts for each pair of identities, in bounded memory.
#include "trireme/control/pair_totals.hpp"

#include <gmock/gmock.h>

#include <map>
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

/// One reading of open connections.
void set_open(PairTotals& pairs, const std::map<Key, PairTotals::Open>& open,
              PairTotals::Time now) {
  pairs.begin_open(now);
  for (const auto& [key, found] : open) {
    pairs.add_open(key, found);
  }
  pairs.end_open();
}

/// Open connections of `count` pairs of one owner, app=0 -> app=db and so on.
std::map<Key, PairTotals::Open> open_pairs(int count, std::uint64_t bytes = 0) {
  std::map<Key, PairTotals::Open> open;
  for (int i = 0; i < count; ++i) {
    open.emplace(Key{"app=" + std::to_string(i), "app=db"},
                 PairTotals::Open{.connections = 1, .bytes = bytes, .owner = "workload x.scope"});
  }
  return open;
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
  set_open(pairs, {{key, {.connections = 3, .bytes = 100, .owner = "workload x"}}}, kNoon);
  set_open(pairs, {{key, {.connections = 2, .bytes = 50, .owner = "workload x"}}},
           kNoon + std::chrono::seconds(1));
  EXPECT_EQ(totals(pairs, key).connections, 2U);
  EXPECT_EQ(totals(pairs, key).bytes, 150U);
  EXPECT_EQ(totals(pairs, key).last, kNoon + std::chrono::seconds(1));
  set_open(pairs, {}, kNoon + std::chrono::seconds(2));
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

/// Long label sets of one owner leave the texts of others their room.
TEST(PairTotals, OneOwnerHasAShareOfTheTexts) {
  PairTotals pairs({.pairs = 1000, .bytes = 16'000});
  pairs.count(flow(identity("web"), identity("db")));
  for (int i = 0; i < 100; ++i) {
    FlowEnd remote = identity(std::to_string(i) + std::string(500, 'x'));
    remote.host = "evil-1";
    pairs.count(flow(remote, identity("db")));
  }
  EXPECT_THAT(pairs.newest(), SizeIs(4)) << "2,000 bytes";
  EXPECT_EQ(totals(pairs, {"app=web", "app=db"}).denied, 1U);
}

/// Readings find the same pairs in the same order: those that do not fit must not displace each
/// other, and with each other all their totals.
TEST(PairTotals, MoreOpenPairsThanPlacesDisplaceNone) {
  PairTotals pairs;
  pairs.count(flow(identity("7"), identity("db")));
  set_open(pairs, open_pairs(1000, 10), kNoon);
  EXPECT_EQ(pairs.left_out(), 488U) << "an eighth of 4,096";
  set_open(pairs, open_pairs(1000, 10), kNoon + std::chrono::seconds(1));
  EXPECT_EQ(pairs.left_out(), 488U);
  EXPECT_EQ(pairs.forgotten(), 0U);
  EXPECT_EQ(totals(pairs, {"app=7", "app=db"}).denied, 1U);
  EXPECT_EQ(totals(pairs, {"app=7", "app=db"}).bytes, 20U);
  set_open(pairs, open_pairs(3), kNoon + std::chrono::seconds(2));
  EXPECT_EQ(pairs.left_out(), 0U);
}

/// Pairs without open connections keep half of the places of their owner.
TEST(PairTotals, OpenPairsLeaveRoomForDenials) {
  PairTotals pairs({.pairs = 80});
  for (int i = 0; i < 10; ++i) {
    pairs.count(flow(identity("denied" + std::to_string(i), "x.scope"), identity("db")));
  }
  set_open(pairs, open_pairs(20), kNoon);
  EXPECT_EQ(pairs.forgotten(), 5U);
  EXPECT_EQ(pairs.left_out(), 15U);
  EXPECT_EQ(totals(pairs, {"app=denied9", "app=db"}).denied, 1U);
}

/// A list is cut at its end, so an idle connection must not stand before a denial.
TEST(PairTotals, AnIdleConnectionIsNoChange) {
  PairTotals pairs({.pairs = 100'000});
  set_open(pairs, open_pairs(1001), kNoon);
  pairs.count(flow(identity("shell"), identity("db")));
  set_open(pairs, open_pairs(1001), kNoon + std::chrono::seconds(1));
  EXPECT_EQ(pairs.newest().front().key->from, "app=shell");
  EXPECT_EQ(totals(pairs, {"app=0", "app=db"}).last, kNoon + std::chrono::seconds(1));
  auto busy = open_pairs(1001);
  busy.at(Key{"app=5", "app=db"}).bytes = 1;
  set_open(pairs, busy, kNoon + std::chrono::seconds(2));
  EXPECT_EQ(pairs.newest().front().key->from, "app=5");
  busy.erase(Key{"app=6", "app=db"});
  set_open(pairs, busy, kNoon + std::chrono::seconds(3));
  EXPECT_THAT(pairs.newest(), SizeIs(1002));
  EXPECT_EQ(totals(pairs, {"app=6", "app=db"}).connections, 0U);
}

}  // namespace
}  // namespace trireme::control
