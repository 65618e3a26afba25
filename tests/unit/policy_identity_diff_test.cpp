// SPDX-License-Identifier: Apache-2.0
// Who becomes a workload, who stops being one, and what that does to the ends of flows.
#include "trireme/policy/identity_diff.hpp"

#include <gtest/gtest.h>

namespace trireme::policy {
namespace {

LabelSet labels(std::initializer_list<std::pair<const char*, const char*>> items) {
  LabelSet made;
  for (const auto& [key, value] : items) {
    EXPECT_TRUE(made.set(key, value));
  }
  return made;
}

Resident resident(const std::string& name, const LabelSet& of, const std::string& blocked = "") {
  return {.key = "/system.slice/" + name,
          .name = name,
          .kind = "unit",
          .labels = of,
          .blocked = blocked};
}

SeenEnd workload(const std::string& name, const LabelSet& of) {
  SeenEnd end;
  end.labels = of;
  end.workload = name;
  return end;
}

SeenEnd process(const std::string& cgroup) {
  SeenEnd end;
  end.host = true;
  end.address = Address::parse("127.0.0.1").value();
  end.cgroup = cgroup;
  return end;
}

SeenFlow flow(SeenEnd from, SeenEnd to) {
  SeenFlow made;
  made.from = std::move(from);
  made.to = std::move(to);
  made.protocol = 6;
  made.port = 80;
  made.is_local = true;
  return made;
}

LabelSet web() {
  return labels({{"app", "web"}});
}

LabelSet db() {
  return labels({{"app", "db"}});
}

TEST(IdentityDiff, EqualListsHaveNoChange) {
  const std::vector<Resident> here = {resident("a", web()), resident("b", db())};
  const std::vector<Resident> reversed = {here[1], here[0]};
  EXPECT_TRUE(IdentityDiff(here, reversed).empty());
}

TEST(IdentityDiff, SaysWhoBecomesEndsAndChanges) {
  const IdentityDiff found({resident("gone", web()), resident("other", web())},
                           {resident("new", db()), resident("other", db())});
  ASSERT_EQ(found.changes().size(), 3U);
  EXPECT_EQ(found.changes()[0].text(), "gone is no longer a workload");
  EXPECT_EQ(found.changes()[1].text(), "new becomes a workload with app=db");
  EXPECT_EQ(found.changes()[2].text(), "other changes from app=web to app=db");
  EXPECT_EQ(found.labels_after(), std::vector<LabelSet>{db()});
}

TEST(IdentityDiff, AHostLabelIsNoOwnLabel) {
  LabelSet zoned = web();
  ASSERT_TRUE(zoned.set_of_host("zone", "eu"));
  EXPECT_EQ(IdentityDiff({resident("a", web())}, {resident("a", zoned)}).changes().size(), 1U);
  LabelSet own = web();
  ASSERT_TRUE(own.set("zone", "eu"));
  EXPECT_EQ(IdentityDiff({resident("a", own)}, {resident("a", zoned)}).changes().size(), 1U)
      << "the baseline tells them apart";
}

TEST(IdentityDiff, QuarantineIsAChange) {
  const IdentityDiff found({resident("a", web())}, {resident("a", web(), "too many labels")});
  ASSERT_EQ(found.changes().size(), 1U);
  EXPECT_EQ(found.changes()[0].text(), "a would be quarantined: too many labels");
  EXPECT_TRUE(found.labels_after().empty());
  const IdentityDiff back({resident("a", web(), "x")}, {resident("a", web())});
  ASSERT_EQ(back.changes().size(), 1U);
  EXPECT_EQ(back.changes()[0].text(), "a would be released from quarantine");
  EXPECT_EQ(found.apply(flow(workload("a", web()), process(""))).blocked, "a would be quarantined");
}

TEST(IdentityDiff, AProcessGetsTheLabelsOfItsUnit) {
  const IdentityDiff found({}, {resident("redis.service", db())});
  const auto moved = found.apply(
      flow(process("/system.slice/other.service"), process("/system.slice/redis.service")));
  EXPECT_FALSE(moved.flow.from.labels);
  ASSERT_TRUE(moved.flow.to.labels);
  EXPECT_EQ(*moved.flow.to.labels, db());
  EXPECT_EQ(moved.flow.to.workload, "redis.service");
  EXPECT_EQ(moved.because, std::vector<std::size_t>{0});
  EXPECT_FALSE(moved.is_own);
}

TEST(IdentityDiff, AProcessWithoutAUnitStaysOne) {
  const IdentityDiff found({}, {resident("redis.service", db())});
  const auto moved = found.apply(flow(process(""), process("")));
  EXPECT_TRUE(moved.because.empty());
  EXPECT_FALSE(moved.flow.from.labels || moved.flow.to.labels);
}

TEST(IdentityDiff, OneUnitAtBothEndsReachesItself) {
  const IdentityDiff found({}, {resident("redis.service", db())});
  EXPECT_TRUE(found
                  .apply(flow(process("/system.slice/redis.service"),
                              process("/system.slice/redis.service")))
                  .is_own);
}

TEST(IdentityDiff, WhoEndsIsAProcessOfThisHostOrTheWorld) {
  const IdentityDiff found({resident("a", web())}, {});
  SeenFlow seen = flow(workload("a", web()), workload("b", db()));
  auto moved = found.apply(seen);
  EXPECT_FALSE(moved.flow.from.labels);
  EXPECT_TRUE(moved.flow.from.host);
  EXPECT_EQ(moved.flow.to.workload, "b");
  seen.is_local = false;
  moved = found.apply(seen);
  EXPECT_FALSE(moved.flow.from.host) << "seen from another network namespace";
}

TEST(IdentityDiff, ARemoteWorkloadHasNoNameHere) {
  const IdentityDiff found({resident("a", web())}, {resident("a", db())});
  const auto moved = found.apply(flow(workload("", web()), workload("a", web())));
  EXPECT_EQ(*moved.flow.from.labels, web());
  EXPECT_EQ(*moved.flow.to.labels, db());
}

}  // namespace
}  // namespace trireme::policy
