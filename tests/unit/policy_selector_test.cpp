// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/selector.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace trireme::policy {
namespace {

LabelSet make(std::initializer_list<std::pair<std::string_view, std::string_view>> items) {
  LabelSet labels;
  for (const auto& [key, value] : items) {
    EXPECT_TRUE(labels.set(key, value)) << key;
  }
  return labels;
}

bool matches(std::string_view selector, const LabelSet& labels) {
  const auto parsed = Selector::parse(selector);
  EXPECT_TRUE(parsed) << selector << ": " << (parsed ? "" : parsed.error().error.text());
  return parsed && parsed->matches(labels);
}

TEST(Selector, OperatorsMatchAsTheManPageDefinesThem) {
  const LabelSet web = make({{"app", "web"}, {"env", "prod"}});
  EXPECT_TRUE(matches("app=web", web));
  EXPECT_TRUE(matches("app == web", web));
  EXPECT_FALSE(matches("app=db", web));
  EXPECT_TRUE(matches("app!=db", web));
  EXPECT_FALSE(matches("app!=web", web));
  EXPECT_TRUE(matches("env in (staging, prod)", web));
  EXPECT_FALSE(matches("env in (staging)", web));
  EXPECT_FALSE(matches("env notin (staging, prod)", web));
  EXPECT_TRUE(matches("env notin (staging)", web));
  EXPECT_TRUE(matches("app", web));
  EXPECT_FALSE(matches("!app", web));
  EXPECT_TRUE(matches("!zone", web));
  EXPECT_TRUE(matches("*", web));
  EXPECT_TRUE(matches("*", {}));
}

// In the original trireme, `!=` required the key to be present.
TEST(Selector, NegationsHoldWhereTheKeyIsAbsent) {
  EXPECT_TRUE(matches("app!=web", {}));
  EXPECT_TRUE(matches("app notin (web, db)", {}));
  EXPECT_TRUE(matches("app!=w*", {}));
  EXPECT_TRUE(matches("app!=*", {}));
}

// In the original trireme, AND counted matching tags instead of clauses.
TEST(Selector, EveryRequirementCountsOnItsOwn) {
  EXPECT_FALSE(matches("app in (web, db), env=prod", make({{"app", "web"}, {"other", "prod"}})));
  EXPECT_FALSE(matches("app=web, app=db", make({{"app", "web"}, {"db", "app"}})));
  EXPECT_FALSE(matches("app=web,app!=web", make({{"app", "web"}})));
}

TEST(Selector, AStarAtTheEndIsAPrefix) {
  EXPECT_TRUE(matches("app=web*", make({{"app", "web"}})));
  EXPECT_TRUE(matches("app=web*", make({{"app", "web-2"}})));
  EXPECT_FALSE(matches("app=web*", make({{"app", "we"}})));
  EXPECT_FALSE(matches("app=web*", make({{"apps", "web"}})));
  EXPECT_TRUE(matches("app in (a*, web*)", make({{"app", "website"}})));
  EXPECT_FALSE(matches("app notin (a*, web*)", make({{"app", "website"}})));
  EXPECT_TRUE(matches("app=*", make({{"app", ""}})));
  EXPECT_FALSE(matches("app=*", {}));
}

TEST(Selector, EmptyValuesAreValues) {
  EXPECT_TRUE(matches("app=", make({{"app", ""}})));
  EXPECT_FALSE(matches("app=", make({{"app", "x"}})));
  EXPECT_FALSE(matches("app=", {}));
  EXPECT_TRUE(matches("app=,env=x", make({{"app", ""}, {"env", "x"}})));
}

TEST(Selector, WordsOfTheGrammarCanBeKeysAndValues) {
  EXPECT_TRUE(matches("in in (in, notin)", make({{"in", "notin"}})));
  EXPECT_TRUE(matches("notin=in", make({{"notin", "in"}})));
  EXPECT_TRUE(matches("in", make({{"in", ""}})));
  EXPECT_TRUE(matches("app.kubernetes.io/name = web", make({{"app.kubernetes.io/name", "web"}})));
}

// The compiler's index relies on both: a selector that it files under too few labels would be void
// in the kernel.
TEST(Selector, AnIndexLearnsWhatCanMatch) {
  const auto first = [](std::string_view text) {
    return Selector::parse(text).value().requirements().front();
  };
  for (const char* text :
       {"app=web", "app=", "app=web*", "app=*", "app in (web, db)", "app in (web, d*)", "app!=web",
        "app!=w*", "app!=*", "app notin (web, db)", "app", "!app"}) {
    const Requirement requirement = first(text);
    const auto* exact = requirement.exact_values();
    if (requirement.needs_key()) {
      EXPECT_FALSE(requirement.matches({})) << text;
    }
    for (const char* value : {"", "w", "web", "website", "db", "d*", "web*", "*"}) {
      const bool matched = requirement.matches(make({{"app", value}}));
      if (exact != nullptr) {
        EXPECT_EQ(std::ranges::count(*exact, value), matched ? 1 : 0) << text << ", " << value;
      }
    }
  }
  for (const char* text : {"app=web", "app=", "app in (web, db)"}) {
    EXPECT_NE(first(text).exact_values(), nullptr) << text;
  }
  for (const char* text : {"app=web", "app=web*", "app in (web, d*)", "app"}) {
    EXPECT_TRUE(first(text).needs_key()) << text;
  }
  for (const char* text : {"app!=web", "app!=*", "app notin (web, db)", "!app"}) {
    EXPECT_FALSE(first(text).needs_key()) << text;
  }
}

TEST(Selector, CanonicalTextIsTheSameForEqualSelectors) {
  const auto a = Selector::parse(" env  in ( prod,staging,prod ) ,app=web");
  const auto b = Selector::parse("app in (web),env in (staging, prod),app==web");
  ASSERT_TRUE(a && b);
  EXPECT_EQ(*a, *b);
  EXPECT_EQ(a->text(), "app=web,env in (prod, staging)");
  for (const char* text :
       {"*", "a", "!a", "a=b*", "a!=b", "a notin (b, c*)", "a=", "a!=", "a!=b,a,b"}) {
    const auto parsed = Selector::parse(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(parsed->text(), text);
    EXPECT_EQ(*Selector::parse(parsed->text()), *parsed);
  }
}

struct Bad {
  const char* text;
  std::size_t offset;
  const char* message;
};

class BadSelector : public testing::TestWithParam<Bad> {};

TEST_P(BadSelector, SaysWhatAndWhere) {
  const auto parsed = Selector::parse(GetParam().text);
  ASSERT_FALSE(parsed) << GetParam().text << " is " << parsed->text();
  EXPECT_EQ(parsed.error().offset, GetParam().offset) << GetParam().text;
  EXPECT_EQ(parsed.error().error.message, GetParam().message) << GetParam().text;
}

INSTANTIATE_TEST_SUITE_P(
    Selector, BadSelector,
    testing::Values(
        Bad{"", 0, "empty selector"}, Bad{"  ", 0, "empty selector"},
        Bad{",", 0, "missing condition"}, Bad{"app=web,", 8, "missing condition"},
        Bad{"app=web,,b", 8, "missing condition"},
        Bad{"app web", 4, "expected '=', '!=', 'in', 'notin' or ',' after key 'app'"},
        Bad{"app=a=b", 5, "unexpected second '='"},
        Bad{"app=web env=prod", 8, "expected ',' after 'app=web'"},
        Bad{"app in web", 7, "expected '(' after 'in'"},
        Bad{"app in (web", 7, "'(' is never closed"}, Bad{"app in (", 7, "'(' is never closed"},
        Bad{"app in (web,", 7, "'(' is never closed"}, Bad{"app in ()", 8, "missing value"},
        Bad{"app in (a,)", 10, "missing value"}, Bad{"app in (a b)", 10, "expected ',' or ')'"},
        Bad{"app=(a)", 4, "a list needs 'in' or 'notin'"}, Bad{"app=a)", 5, "')' without '('"},
        Bad{"!app=web", 4, "'!app' takes no value"}, Bad{"!", 1, "missing condition"},
        Bad{"app!web", 3, "unexpected '!' after key 'app'"},
        Bad{"*,app=web", 0, "'*' cannot be combined with other conditions"},
        Bad{"app=w*b", 5, "'*' is allowed only at the end of a value"},
        Bad{"app=**", 4, "'*' is allowed only at the end of a value"},
        Bad{"=web", 0, "missing label key before '='"},
        Bad{"a, @host", 3, "'@host' is an entity, not a label"},
        Bad{"app>1", 3, "expected '=', '!=', 'in', 'notin' or ',' after key 'app'"},
        Bad{"w*=a", 0, "invalid character '*' in label key 'w*'"},
        Bad{"a, -b", 3, "label key '-b' must start and end with a letter or digit"},
        Bad{"a=\x01", 2, "label value contains a control character or is not valid UTF-8"}));

}  // namespace
}  // namespace trireme::policy
