// SPDX-License-Identifier: Apache-2.0
// Rules that expire.
#include <gtest/gtest.h>

#include "trireme/policy/evaluate.hpp"
#include "trireme/policy/expiry.hpp"
#include "trireme/policy/explain.hpp"
#include "trireme/policy/lint.hpp"

namespace trireme::policy {
namespace {

using std::chrono::seconds;
using std::chrono::sys_seconds;

constexpr sys_seconds kNoon(seconds(1'000'000));

Policy rules_until(const std::vector<std::optional<sys_seconds>>& times) {
  Policy policy;
  policy.digest[0] = 7;
  for (const auto& time : times) {
    Rule rule;
    rule.from.emplace_back(Selector::parse("app=web").value());
    rule.to.emplace_back(Selector::parse("app=db").value());
    rule.until = time;
    rule.where = {"p", static_cast<std::uint32_t>(policy.rules.size() + 1), 1};
    policy.rules.push_back(rule);
  }
  return policy;
}

TEST(Expiry, ARuleIsInForceBeforeItsUntil) {
  const Policy policy = rules_until({kNoon});
  EXPECT_EQ(in_force(policy, kNoon - seconds(1)).rules.size(), 1U);
  EXPECT_EQ(in_force(policy, kNoon).rules.size(), 0U);
  EXPECT_EQ(in_force(policy, kNoon + seconds(1)).rules.size(), 0U);
  EXPECT_EQ(in_force(rules_until({std::nullopt}), sys_seconds::max()).rules.size(), 1U);
  EXPECT_EQ(in_force(policy, kNoon).digest, policy.digest) << "the digest is that of the files";
}

// After a boot, the clock can be behind until it is synchronized.
TEST(Expiry, OnlyDenyRulesComeBack) {
  Policy policy = rules_until({kNoon, kNoon});
  policy.rules[1].action = Rule::Action::deny;
  const Policy back = in_force(policy, Now(kNoon - seconds(1), kNoon));
  ASSERT_EQ(back.rules.size(), 1U);
  EXPECT_EQ(back.rules[0].action, Rule::Action::deny);
  EXPECT_EQ(in_force(policy, Now(kNoon, kNoon - seconds(1))).rules.size(), 0U);
  EXPECT_FALSE(period_of(policy, kNoon).contains(kNoon - seconds(1)));
}

TEST(Expiry, APeriodHasTheSameRules) {
  Policy policy = rules_until({kNoon, std::nullopt, kNoon + seconds(10), kNoon - seconds(10),
                               kNoon + seconds(5), kNoon - seconds(5)});
  policy.rules[4].action = policy.rules[5].action = Rule::Action::deny;
  for (int offset = -12; offset <= 12; ++offset) {
    const sys_seconds time = kNoon + seconds(offset);
    const Period period = period_of(policy, time);
    EXPECT_TRUE(period.contains(time)) << offset;
    for (int other = -12; other <= 12; ++other) {
      const sys_seconds then = kNoon + seconds(other);
      EXPECT_EQ(period.contains(then), in_force(policy, Now(then, time)).rules.size() ==
                                           in_force(policy, time).rules.size())
          << offset << " and " << other;
    }
  }
  EXPECT_TRUE(period_of(rules_until({std::nullopt}), kNoon).contains(sys_seconds::min()));
}

TEST(Expiry, TimesAsText) {
  EXPECT_EQ(text(sys_seconds(seconds(0))), "1970-01-01T00:00:00Z");
  EXPECT_EQ(text(sys_seconds(seconds(1'796'083'199))), "2026-11-30T23:59:59Z");
  EXPECT_EQ(text(sys_seconds(seconds(-1))), "1969-12-31T23:59:59Z");
}

std::string explained(const Policy& policy) {
  const World world;
  const auto web = parse_ends("app=web", policy, world);
  const auto db = parse_ends("app=db", policy, world);
  EXPECT_TRUE(web && db);
  return web && db ? explain(policy, world, *web, *db, 6, 80).render() : "";
}

TEST(Expiry, ExplainNamesTheTime) {
  EXPECT_NE(explained(rules_until({kNoon})).find("1970-01-12T13:46:40Z"), std::string::npos);
  EXPECT_EQ(explained(rules_until({std::nullopt})).find("until:"), std::string::npos);
}

// A rule that ends earlier has no effect beside one that includes it, but not the reverse.
TEST(Expiry, LintComparesHowLongRulesLast) {
  EXPECT_EQ(lint(rules_until({std::nullopt, kNoon}), {}).size(), 1U);
  const auto reversed = lint(rules_until({kNoon, std::nullopt}), {});
  ASSERT_EQ(reversed.size(), 1U);
  EXPECT_EQ(reversed.front().where.line, 1U) << "the one that expires";
  EXPECT_EQ(reversed.front().kind, Finding::Kind::shadowed);
  EXPECT_EQ(lint(rules_until({kNoon, kNoon}), {}).front().kind, Finding::Kind::duplicate);
}

}  // namespace
}  // namespace trireme::policy
