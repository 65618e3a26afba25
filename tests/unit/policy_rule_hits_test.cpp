// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/rule_hits.hpp"

#include <gtest/gtest.h>

#include "trireme/policy/explain.hpp"

namespace trireme::policy {
namespace {

using std::chrono::seconds;

constexpr std::uint8_t kTcp = 6;

RuleHits::Time at(int second) {
  return RuleHits::Time(seconds(second));
}

Rule rule(const std::string& name, std::uint32_t line, std::uint16_t port = 80) {
  Rule made;
  made.name = name;
  made.from = {*Selector::parse("app=web")};
  made.to = {Entity{.kind = Entity::Kind::network, .network = 0}};
  made.ports = {{kTcp, port, port}};
  made.where = {"policy.toml", line, 1};
  return made;
}

Policy policy_of(std::vector<Rule> rules) {
  Policy policy;
  policy.networks = {{.name = "site", .cidrs = {}, .names = {}, .where = {}}};
  policy.rules = std::move(rules);
  return policy;
}

Flow flow(const std::string& rule, int second, const char* reason = "") {
  Flow made;
  made.rule = rule;
  made.reason = reason;
  made.time = at(second);
  return made;
}

std::uint64_t hits(const RuleHits& counter, const Policy& policy, std::size_t index) {
  return counter.lines(policy).at(index).count.hits;
}

TEST(RuleHits, CountsTheRuleThatDecided) {
  const Policy policy = policy_of({rule("used", 1), rule("dead", 5)});
  RuleHits counter;
  counter.use(policy, at(0));
  counter.count(flow(policy.rules[0].text(), 20));
  counter.count(flow(policy.rules[0].text(), 10));
  const auto lines = counter.lines(policy);
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_EQ(lines[0].text, "allow 'used' (policy.toml:1:1)");
  EXPECT_EQ(lines[0].rule, policy.rules.data());
  EXPECT_EQ(lines[0].count.hits, 2U);
  EXPECT_EQ(lines[0].count.last, at(20)) << "reports of two places can come in another order";
  EXPECT_EQ(lines[0].count.since, at(0));
  EXPECT_EQ(lines[1].count.hits, 0U);
  EXPECT_EQ(lines[1].count.last, std::nullopt);
}

TEST(RuleHits, CountsWhatNoRuleDecided) {
  const Policy policy = policy_of({rule("used", 1)});
  RuleHits counter;
  counter.use(policy, at(0));
  counter.count(flow("", 1, sentence(Reason::baseline)));
  counter.count(flow("", 2, sentence(Reason::no_rule)));
  counter.count(flow("", 3, sentence(Reason::no_rule)));
  counter.count(flow("", 4, "the source is quarantined"));
  counter.count(flow("allow 'of a former policy' (policy.toml:9:1)", 5));
  const auto lines = counter.lines(policy);
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[0].count.hits, 0U);
  EXPECT_EQ(lines[1].text, "baseline");
  EXPECT_EQ(lines[1].rule, nullptr);
  EXPECT_EQ(lines[1].count.hits, 1U);
  EXPECT_EQ(lines[2].text, "no rule");
  EXPECT_EQ(lines[2].count.hits, 2U);
}

TEST(RuleHits, ARuleThatMovesKeepsItsCount) {
  const Policy before = policy_of({rule("moves", 1)});
  RuleHits counter;
  counter.use(before, at(0));
  counter.count(flow(before.rules[0].text(), 1));
  const Policy after = policy_of({rule("new", 1), rule("moves", 7)});
  counter.use(after, at(10));
  EXPECT_EQ(hits(counter, after, 0), 0U);
  EXPECT_EQ(hits(counter, after, 1), 1U);
  EXPECT_EQ(counter.lines(after)[0].count.since, at(10));
  EXPECT_EQ(counter.lines(after)[1].count.since, at(0));
  counter.count(flow(after.rules[1].text(), 11));
  EXPECT_EQ(hits(counter, after, 1), 2U);
  counter.count(flow(before.rules[0].text(), 12));
  EXPECT_EQ(hits(counter, after, 0), 0U) << "an earlier rule had this place";
}

TEST(RuleHits, ARuleThatChangesBeginsAgain) {
  const Policy before = policy_of({rule("changes", 1)});
  std::vector<Policy> changed;
  changed.push_back(policy_of({rule("changes", 1, 81)}));
  changed.push_back(policy_of({rule("is renamed", 1)}));
  changed.push_back(policy_of({rule("changes", 1)}));
  changed.back().rules[0].action = Rule::Action::deny;
  changed.push_back(policy_of({rule("changes", 1)}));
  changed.back().rules[0].mode = Mode::audit;
  changed.push_back(policy_of({rule("changes", 1)}));
  changed.back().rules[0].to = {Entity{.kind = Entity::Kind::world}};
  changed.push_back(policy_of({rule("changes", 1)}));
  std::swap(changed.back().rules[0].from, changed.back().rules[0].to);
  for (const Policy& after : changed) {
    RuleHits counter;
    counter.use(before, at(0));
    counter.count(flow(before.rules[0].text(), 1));
    counter.use(after, at(2));
    EXPECT_EQ(hits(counter, after, 0), 0U) << after.rules[0].text();
  }
}

}  // namespace
}  // namespace trireme::policy
