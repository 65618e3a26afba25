// SPDX-License-Identifier: Apache-2.0
// Flows from the journal: grouped and counted; entries that are no flows are skipped.
#include "journal_flows.hpp"

#include <gtest/gtest.h>

#include <string>

namespace trireme::cli {
namespace {

std::string entry(const std::string& port, const std::string& address = "10.0.0.1") {
  return R"({"time":"2026-01-31T12:00:00.000000Z","verdict":"audit","protocol":"tcp","port":)" +
         port + R"(,"source":{"labels":{"app":"web"},"workload":"web.scope","address":")" +
         address + R"("},"destination":{"entity":"@host","address":"10.0.0.9"},"cause":""})";
}

TEST(FlowGroups, IdenticalFlowsAreCountedTogether) {
  FlowGroups groups;
  EXPECT_TRUE(groups.add(entry("80")));
  EXPECT_TRUE(groups.add(entry("80", "10.0.0.2"), 41)) << "labels count, not the address";
  EXPECT_TRUE(groups.add(entry("81")));
  const JournalFlows taken = groups.take();
  ASSERT_EQ(taken.flows.size(), 2U);
  EXPECT_EQ(taken.flows[0].count + taken.flows[1].count, 43U);
  EXPECT_EQ(taken.left_out, 0U);
}

TEST(FlowGroups, AnEntryWithoutACountIsOneFlow) {
  FlowGroups groups;
  EXPECT_TRUE(groups.add(entry("80"), 0));
  EXPECT_EQ(groups.take().flows.at(0).count, 1U);
}

TEST(FlowGroups, WhatIsNoFlowIsSkipped) {
  FlowGroups groups;
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("7"), std::string("{}"),
        entry("70000"), entry("\"http\""), entry("{}"), std::string(R"({"source":[],"port":1})"),
        std::string(100'000, '[')}) {
    EXPECT_FALSE(groups.add(text)) << text.substr(0, 60);
  }
  EXPECT_TRUE(groups.take().flows.empty());
}

}  // namespace
}  // namespace trireme::cli
