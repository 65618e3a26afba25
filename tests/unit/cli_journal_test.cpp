// SPDX-License-Identifier: Apache-2.0
// Flows of the journal: which are identical, and how many there were.
#include <gtest/gtest.h>

#include "journal_flows.hpp"

namespace trireme::cli {
namespace {

std::string flow(const char* app, int port) {
  return std::string(R"({"protocol":"tcp","verdict":"audit","port":)") + std::to_string(port) +
         R"(,"source":{"entity":"@host","address":"127.0.0.1"},"destination":{"labels":{"app":")" +
         app + R"("},"workload":"x"}})";
}

TEST(FlowGroups, RepeatedFlowsOfOneEntryCountEachTime) {
  FlowGroups groups;
  EXPECT_TRUE(groups.add(flow("db", 5432)));
  EXPECT_TRUE(groups.add(flow("db", 5432), 40));
  EXPECT_TRUE(groups.add(flow("db", 5433)));
  const std::vector<policy::SeenFlow> flows = groups.take();
  ASSERT_EQ(flows.size(), 2U);
  EXPECT_EQ(flows[0].count + flows[1].count, 42U);
  EXPECT_TRUE(groups.take().empty());
}

TEST(FlowGroups, WhatIsNoFlowIsLeftOut) {
  FlowGroups groups;
  EXPECT_FALSE(groups.add("no JSON"));
  EXPECT_FALSE(groups.add("[]"));
  EXPECT_FALSE(groups.add(R"({"protocol":"tcp","port":"http"})"));
  EXPECT_TRUE(groups.take().empty());
}

}  // namespace
}  // namespace trireme::cli
