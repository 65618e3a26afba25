// SPDX-License-Identifier: Apache-2.0
// The map of the page: one state for each edge, and what names of workloads can do in it.
#include "trireme/control/map.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace trireme::control {
namespace {

using policy::GraphEdge;
using policy::GraphNode;
using policy::GraphUse;
using policy::Verdict;

GraphUse use(std::uint16_t port, Verdict verdict, std::uint64_t count) {
  return {.ports = {6, port, port}, .verdict = verdict, .count = count, .last = "then"};
}

GraphEdge edge(std::size_t from, std::size_t to, std::vector<GraphUse> did) {
  GraphEdge made;
  made.from = from;
  made.to = to;
  made.may = {{6, 80, 80}};
  made.did = std::move(did);
  return made;
}

policy::Graph graph_of(const std::vector<std::string>& names) {
  policy::Graph graph;
  for (const std::string& name : names) {
    GraphNode node;
    node.text = name;
    node.members = {name + "-1"};
    node.workloads = 1;
    graph.nodes.push_back(node);
  }
  return graph;
}

TEST(Map, TheWorstVerdictIsTheStateOfAnEdge) {
  EXPECT_EQ(state_of(edge(0, 1, {})), EdgeState::open);
  EXPECT_EQ(state_of(edge(0, 1, {use(80, Verdict::allow, 9)})), EdgeState::allow);
  EXPECT_EQ(state_of(edge(0, 1, {use(80, Verdict::allow, 9), use(81, Verdict::audit, 1)})),
            EdgeState::audit);
  EXPECT_EQ(state_of(edge(0, 1,
                          {use(80, Verdict::deny, 1), use(81, Verdict::audit, 1),
                           use(82, Verdict::allow, 9)})),
            EdgeState::deny);
}

TEST(Map, CountsWhatWasSeenAndDenied) {
  policy::Graph graph = graph_of({"app=web", "app=db"});
  graph.edges = {edge(0, 1, {use(80, Verdict::allow, 9), use(81, Verdict::deny, 2)})};
  const auto drawn = map_json(graph)["edges"][0];
  EXPECT_EQ(drawn["state"], "deny");
  EXPECT_EQ(drawn["seen"], 11);
  EXPECT_EQ(drawn["denied"], 2);
  EXPECT_EQ(drawn["may"], "tcp/80");
  EXPECT_EQ(drawn["did"][0]["verdict"], "deny") << "the worst first";
}

TEST(Map, WhatTheBaselineAllowsToEveryIdentityIsNoEdge) {
  policy::Graph graph = graph_of({"app=web"});
  graph.edges = {edge(0, 0, {use(80, Verdict::allow, 9)})};
  graph.edges[0].by_baseline = true;
  EXPECT_TRUE(map_json(graph)["edges"].empty());
  graph.edges[0].by_baseline = false;
  EXPECT_EQ(map_json(graph)["edges"].size(), 1U) << "a rule allows it";
  graph.edges[0].by_baseline = true;
  graph.edges[0].did.push_back(use(81, Verdict::deny, 1));
  EXPECT_EQ(map_json(graph)["edges"].size(), 1U) << "a rule denies some of it";
}

TEST(Map, WhatWasNotSeenIsLeftOutFirst) {
  policy::Graph graph = graph_of({"app=a", "app=b", "app=c"});
  graph.edges = {edge(0, 1, {}), edge(1, 2, {use(80, Verdict::allow, 1)}),
                 edge(2, 0, {use(80, Verdict::deny, 1)})};
  const auto drawn = map_json(graph, {.nodes = 9, .edges = 2, .uses = 8, .parties = 20});
  ASSERT_EQ(drawn["edges"].size(), 2U);
  EXPECT_EQ(drawn["edges"][0]["state"], "deny");
  EXPECT_EQ(drawn["edges"][1]["state"], "allow");
  EXPECT_EQ(drawn["left_out"], 1);
}

TEST(Map, NodesAreBoundedAndTheEndsOfTheWorstEdgesStay) {
  std::vector<std::string> names;
  for (int i = 0; i < 1000; ++i) {
    names.push_back("app=" + std::to_string(i));
  }
  policy::Graph graph = graph_of(names);
  graph.edges = {edge(0, 1, {}), edge(2, 3, {use(80, Verdict::allow, 1)}),
                 edge(997, 999, {use(80, Verdict::deny, 1)})};
  EXPECT_EQ(map_json(graph)["nodes"].size(), 500U);
  const auto drawn = map_json(graph, {.nodes = 4, .edges = 9, .uses = 8, .parties = 20});
  ASSERT_EQ(drawn["nodes"].size(), 4U);
  EXPECT_EQ(drawn["nodes_left_out"], 996);
  ASSERT_EQ(drawn["edges"].size(), 2U);
  EXPECT_EQ(drawn["left_out"], 1);
  const auto worst = drawn["edges"][0];
  EXPECT_EQ(worst["state"], "deny");
  EXPECT_EQ(drawn["nodes"][worst["from"].get<std::size_t>()]["text"], "app=997");
  EXPECT_EQ(drawn["nodes"][worst["to"].get<std::size_t>()]["text"], "app=999");
}

TEST(Map, ANodeKeepsItsIdWhenOthersAreLeftOut) {
  policy::Graph graph = graph_of({"x.scope", "x.scope"});
  const auto both = map_json(graph);
  graph.edges = {edge(1, 1, {use(80, Verdict::deny, 1)})};
  const auto one = map_json(graph, {.nodes = 1, .edges = 9, .uses = 8, .parties = 20});
  ASSERT_EQ(one["nodes"].size(), 1U);
  EXPECT_EQ(one["nodes"][0]["id"], both["nodes"][1]["id"]);
}

TEST(Map, UsesAndPartiesAreBounded) {
  policy::Graph graph = graph_of({"app=a", "app=b"});
  std::vector<GraphUse> scan;
  for (std::uint16_t port = 1; port <= 100; ++port) {
    scan.push_back(use(port, Verdict::deny, 1));
  }
  graph.edges = {edge(0, 1, std::move(scan))};
  graph.nodes[0].parties.assign(50, "app=x");
  const auto drawn = map_json(graph);
  EXPECT_EQ(drawn["edges"][0]["did"].size(), 8U);
  EXPECT_EQ(drawn["edges"][0]["did_left_out"], 92);
  EXPECT_EQ(drawn["edges"][0]["denied"], 100);
  EXPECT_EQ(drawn["nodes"][0]["parties"].size(), 20U);
  EXPECT_EQ(drawn["nodes"][0]["parties_left_out"], 30);
}

TEST(Map, NodesWithOneNameHaveTheirOwnIds) {
  const auto drawn = map_json(graph_of({"x.scope", "x.scope", "x.scope"}));
  EXPECT_NE(drawn["nodes"][0]["id"], drawn["nodes"][1]["id"]);
  EXPECT_NE(drawn["nodes"][1]["id"], drawn["nodes"][2]["id"]);
}

/// Text in another direction would look like another name.
TEST(Map, NamesCannotChangeTheDirectionOfText) {
  policy::Graph graph =
      graph_of({"app=\xE2\x80\xAE"
                "bew"});
  graph.nodes[0].labels = {{"app",
                            "\xE2\x80\xAE"
                            "bew"}};
  const auto node = map_json(graph)["nodes"][0];
  EXPECT_EQ(node["text"], "app=?bew");
  EXPECT_EQ(node["members"][0], "app=?bew-1");
  EXPECT_EQ(node["labels"]["app"], "?bew");
}

}  // namespace
}  // namespace trireme::control
