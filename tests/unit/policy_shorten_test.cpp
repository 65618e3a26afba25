// SPDX-License-Identifier: Apache-2.0
// Labels of two endpoints are shortened by what both share, and by nothing else.
#include "trireme/policy/shorten.hpp"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>

namespace trireme::policy {
namespace {

using Labels = LabelSet::Map;

void expect(const Labels& source, const Labels& destination, const std::string& first,
            const std::string& second) {
  const ShortLabels made = shorten(source, destination);
  EXPECT_EQ(made.source, first);
  EXPECT_EQ(made.destination, second);
}

TEST(Shorten, LeavesOutWhatBothShare) {
  expect({{"app", "web"}, {"env", "prod"}}, {{"app", "db"}, {"env", "prod"}}, "app=web,…",
         "app=db,…");
  expect({{"app", "web"}}, {{"app", "db"}}, "app=web", "app=db");
  expect({{"app", "web"}, {"env", "prod"}}, {{"app", "web"}, {"env", "dev"}}, "env=prod,…",
         "env=dev,…");
}

TEST(Shorten, AnEndNeverBecomesEmpty) {
  expect({{"env", "prod"}}, {{"app", "db"}, {"env", "prod"}}, "env=prod", "app=db,…");
  expect({{"app", "web"}, {"env", "prod"}}, {{"app", "web"}, {"env", "prod"}}, "app=web,env=prod",
         "same labels");
  expect({}, {{"app", "db"}}, "", "app=db");
  expect({}, {}, "", "");
}

TEST(Shorten, TheSameKeyWithAnotherValueIsNotShared) {
  const std::string long_value(56, 'v');
  expect({{"app", long_value + "1"}}, {{"app", long_value + "2"}}, "app=" + long_value + "1",
         "app=" + long_value + "2");
}

/// Splits the text of one end into its labels; "…" stands for those that were left out.
std::set<std::string> labels_in(const std::string& text) {
  std::set<std::string> labels;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    labels.insert(text.substr(at, end - at));
    at = end + 1;
  }
  return labels;
}

std::set<std::string> labels_of(const Labels& labels) {
  std::set<std::string> result;
  for (const auto& [key, value] : labels) {
    result.insert(key + "=" + value);
  }
  return result;
}

/// What one end shows, for any two sets: labels of its own only, each label that the other end
/// lacks, and a mark exactly where a label was left out.
void check_end(const Labels& set, const Labels& other, const std::string& text) {
  std::set<std::string> shown = labels_in(text);
  const bool marked = shown.erase("…") > 0;
  const auto own = labels_of(set);
  const auto others = labels_of(other);
  for (const std::string& label : shown) {
    EXPECT_TRUE(own.contains(label)) << label;
  }
  for (const std::string& label : own) {
    if (!others.contains(label)) {
      EXPECT_TRUE(shown.contains(label)) << "a label that differs is missing: " << label;
    }
  }
  EXPECT_EQ(marked, shown.size() < own.size()) << text;
  EXPECT_EQ(text.empty(), set.empty()) << text;
}

TEST(Shorten, AnyTwoSets) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const auto up_to = [&](unsigned most) { return static_cast<unsigned>(random() % (most + 1)); };
  for (int round = 0; round < 20'000; ++round) {
    const auto set = [&] {
      Labels labels;
      for (unsigned i = up_to(5); i > 0; --i) {
        labels["k" + std::to_string(up_to(4))] =
            std::string(up_to(60), 'v') + std::to_string(up_to(1));
      }
      return labels;
    };
    const Labels source = set();
    const Labels destination = up_to(9) == 0 ? source : set();
    const ShortLabels made = shorten(source, destination);
    if (source == destination && !source.empty()) {
      EXPECT_EQ(labels_in(made.source), labels_of(source));
      EXPECT_EQ(made.destination, "same labels");
      continue;
    }
    check_end(source, destination, made.source);
    check_end(destination, source, made.destination);
    EXPECT_TRUE(source == destination || made.source != made.destination);
    if (::testing::Test::HasFailure()) {
      return;
    }
  }
}

}  // namespace
}  // namespace trireme::policy
