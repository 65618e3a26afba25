// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/graph.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

namespace trireme::policy {
namespace {

LabelSet app(const std::string& value) {
  LabelSet labels;
  EXPECT_TRUE(labels.set("app", value));
  return labels;
}

Party present(const std::string& value) {
  Party party = party_of(app(value));
  party.members = {value + "-1"};
  return party;
}

Policy web_to_db() {
  Policy policy;
  policy.networks = {
      {.name = "dns", .cidrs = {*Prefix::parse("10.0.0.53")}, .names = {}, .where = {}},
      {.name = "idle", .cidrs = {*Prefix::parse("10.9.0.0/16")}, .names = {}, .where = {}}};
  Rule rule;
  rule.from = {*Selector::parse("app=web")};
  rule.to = {*Selector::parse("app=db")};
  rule.ports = {{6, 5432, 5432}};
  policy.rules = {rule};
  return policy;
}

const GraphEdge* find(const Graph& graph, const std::string& from, const std::string& to) {
  const auto found = std::ranges::find_if(graph.edges, [&](const GraphEdge& edge) {
    return graph.nodes[edge.from].text == from && graph.nodes[edge.to].text == to;
  });
  return found == graph.edges.end() ? nullptr : &*found;
}

TEST(Graph, ShowsWhoMayAndWhoDid) {
  SeenFlow refused;
  refused.from.address = *Address::parse("10.0.0.53");
  refused.to.labels = app("db");
  refused.protocol = 6;
  refused.port = 22;
  refused.count = 3;
  refused.verdict = Verdict::deny;
  const Graph drawn = graph(web_to_db(), {present("web"), present("db")}, {refused, refused});
  const GraphEdge* allowed = find(drawn, "app=web", "app=db");
  ASSERT_NE(allowed, nullptr);
  EXPECT_EQ(ports_text(allowed->may), "tcp/5432");
  EXPECT_TRUE(allowed->did.empty());
  EXPECT_EQ(find(drawn, "app=db", "app=web"), nullptr);
  EXPECT_NE(find(drawn, "app=db", "app=db"), nullptr);  // the baseline
  const GraphEdge* did = find(drawn, "@dns", "app=db");
  ASSERT_NE(did, nullptr);
  EXPECT_TRUE(did->may.empty());
  ASSERT_EQ(did->did.size(), 1U);
  EXPECT_EQ(did->did[0].count, 6U);
  EXPECT_TRUE(std::ranges::none_of(drawn.nodes,
                                   [](const GraphNode& node) { return node.text == "@idle"; }));
}

/// Edges have the color of the policy that is drawn, not of the one that was in force when the flow
/// was seen.
TEST(Graph, SeenFlowsAreJudgedByThePolicyThatIsDrawn) {
  const auto seen = [](std::uint16_t port, Verdict verdict, std::uint64_t count) {
    SeenFlow flow;
    flow.from.labels = app("web");
    flow.to.labels = app("db");
    flow.protocol = 6;
    flow.port = port;
    flow.verdict = verdict;
    flow.count = count;
    return flow;
  };
  const auto verdicts = [](const Graph& drawn) {
    std::map<std::uint16_t, std::pair<Verdict, std::uint64_t>> by_port;
    for (const GraphUse& use : find(drawn, "app=web", "app=db")->did) {
      EXPECT_TRUE(by_port.emplace(use.ports.first, std::pair(use.verdict, use.count)).second)
          << "one entry for each port";
    }
    return by_port;
  };
  const std::vector<SeenFlow> flows = {seen(5432, Verdict::audit, 2), seen(5432, Verdict::deny, 3),
                                       seen(80, Verdict::allow, 1)};
  Policy policy = web_to_db();
  auto drawn = graph(policy, {present("web"), present("db")}, flows);
  EXPECT_EQ(verdicts(drawn)[5432], std::pair(Verdict::allow, std::uint64_t{5}))
      << "the rule is there now";
  EXPECT_EQ(verdicts(drawn)[80], std::pair(Verdict::deny, std::uint64_t{1})) << "and here is none";
  EXPECT_NE(dot(drawn).find("color=red"), std::string::npos);
  EXPECT_EQ(dot(graph(policy, {present("web"), present("db")}, {flows[0], flows[1]}))
                .find("color=orange"),
            std::string::npos);
  policy.mode = Mode::audit;
  drawn = graph(policy, {present("web"), present("db")}, flows);
  EXPECT_EQ(verdicts(drawn)[80].first, Verdict::audit);
}

/// A scan is one edge, with a label that can be drawn.
TEST(Graph, TheLabelOfAnEdgeShowsEightPorts) {
  std::vector<SeenFlow> flows;
  for (std::uint16_t port = 1; port <= 30; port++) {
    SeenFlow flow;
    flow.from.labels = app("web");
    flow.to.labels = app("db");
    flow.protocol = 6;
    flow.port = port;
    flow.count = port;
    flow.verdict = Verdict::deny;
    flows.push_back(flow);
  }
  flows.push_back(flows.back());
  flows.back().port = 5432;
  flows.back().count = 1000;
  const Graph drawn = graph(web_to_db(), {present("web"), present("db")}, flows);
  EXPECT_EQ(find(drawn, "app=web", "app=db")->did.size(), 31U) << "JSON has all";
  const std::string text = dot(drawn);
  EXPECT_NE(text.find("deny tcp/30 x30"), std::string::npos) << text;
  EXPECT_NE(text.find("deny tcp/23 x23"), std::string::npos) << text;
  EXPECT_EQ(text.find("tcp/22 "), std::string::npos) << text;
  EXPECT_EQ(text.find("x1000"), std::string::npos) << "denied ones come first: " << text;
  EXPECT_NE(text.find("and 23 more"), std::string::npos) << text;
  flows.resize(8);
  EXPECT_EQ(dot(graph(web_to_db(), {present("web"), present("db")}, flows)).find("more"),
            std::string::npos);
}

TEST(Graph, WorkloadsWithoutLabelsHaveTheirNames) {
  Party nameless = party_of({});
  nameless.members = {"shop_worker_1"};
  SeenFlow flow;
  flow.from.labels.emplace();
  flow.from.workload = "shop_worker_1";
  flow.to.labels = app("db");
  flow.protocol = 6;
  flow.port = 5432;
  EXPECT_NE(find(graph(web_to_db(), {nameless, present("db")}, {flow}), "shop_worker_1", "app=db"),
            nullptr);
  nameless.members.emplace_back("shop_worker_2");
  EXPECT_NE(find(graph(web_to_db(), {nameless, present("db")}, {flow}),
                 "shop_worker_1 and 1 more without labels", "app=db"),
            nullptr);
}

TEST(Graph, AProcessOfThisHostIsNotDrawnAsANetworkAroundIt) {
  Policy policy = web_to_db();
  policy.networks.push_back({.name = "corp",
                             .cidrs = {*Prefix::parse("0.0.0.0/0"), *Prefix::parse("::/0")},
                             .names = {},
                             .where = {}});
  policy.networks.push_back(
      {.name = "resolver", .cidrs = {*Prefix::parse("127.0.0.53")}, .names = {}, .where = {}});
  const auto seen = [](const char* address, bool host) {
    SeenFlow flow;
    flow.from.labels = app("web");
    flow.to.host = host;
    flow.to.address = *Address::parse(address);
    flow.protocol = 6;
    flow.port = 80;
    return flow;
  };
  const Graph drawn =
      graph(policy, {present("web")},
            {seen("10.0.0.53", true), seen("10.0.0.53", false), seen("10.3.0.1", true),
             seen("10.3.0.1", false), seen("127.0.0.1", true)});
  const auto count = [&](const Graph& in, const char* to) {
    const GraphEdge* edge = find(in, "app=web", to);
    return edge == nullptr || edge->did.empty() ? 0U : edge->did[0].count;
  };
  EXPECT_EQ(count(drawn, "@host"), 3U);
  EXPECT_EQ(count(drawn, "@dns"), 1U);
  EXPECT_EQ(count(drawn, "@corp"), 1U);
  // A network of loopback addresses contains only this host.
  const Graph local = graph(policy, {present("web")}, {seen("127.0.0.53", true)});
  EXPECT_EQ(count(local, "@resolver"), 1U);
  EXPECT_EQ(count(local, "@host"), 0U);
}

TEST(Graph, EntitiesComeAfterWorkloadsThisHostFirst) {
  Policy policy = web_to_db();
  policy.rules[0].from = {Entity{Entity::Kind::network, 0}, Entity{Entity::Kind::host, 0},
                          Entity{Entity::Kind::world, 0}};
  const Graph drawn = graph(policy, {present("web"), present("db")}, {});
  std::vector<std::string> order;
  for (const GraphNode& node : drawn.nodes) {
    order.push_back(node.text);
  }
  EXPECT_EQ(order,
            (std::vector<std::string>{"app=web", "app=db", "@host", "@world", "@dns", "@idle"}));
}

TEST(Graph, ANetworkThatHasNamesAloneIsDrawn) {
  Policy policy = web_to_db();
  policy.networks.push_back(
      {.name = "mirror", .cidrs = {}, .names = {"*.example.org"}, .where = {}});
  policy.rules[0].to = {Entity{Entity::Kind::network, 2}};
  SeenFlow seen;
  seen.from.labels = app("web");
  seen.to.address = *Address::parse("192.0.2.1");
  seen.to.names = {"deb.example.org"};
  seen.protocol = 6;
  seen.port = 5432;
  const Graph drawn = graph(policy, {present("web")}, {seen});
  const GraphEdge* edge = find(drawn, "app=web", "@mirror");
  ASSERT_NE(edge, nullptr);
  EXPECT_EQ(ports_text(edge->may), "tcp/5432");
  ASSERT_EQ(edge->did.size(), 1U);
}

TEST(Graph, AWorkloadThatHasGoneIsStillDrawn) {
  SeenFlow flow;
  flow.from.labels = app("gone");
  flow.to.host = true;
  const Graph drawn = graph(web_to_db(), {present("web")}, {flow});
  EXPECT_NE(find(drawn, "app=gone", "@host"), nullptr);
}

TEST(Graph, ManyLabelSetsThatNoRuleTellsApartAreOneNode) {
  std::vector<Party> many;
  for (int i = 0; i < 1000; ++i) {
    many.push_back(present("x" + std::to_string(i)));
  }
  many.push_back(present("web"));
  const Graph drawn = graph(web_to_db(), std::move(many), {});
  EXPECT_TRUE(drawn.folded);
  EXPECT_TRUE(std::ranges::any_of(drawn.nodes,
                                  [](const GraphNode& node) { return node.workloads == 1000; }));
  EXPECT_LT(drawn.nodes.size(), 10U);
}

TEST(Graph, DotQuotesWhatNamesHold) {
  Party party = present("web");
  party.text = "app=\"web\\";
  const std::string text = dot(graph(web_to_db(), {party}, {}));
  EXPECT_NE(text.find(R"(label="app=\"web\\)"), std::string::npos) << text;
}

TEST(Graph, NamesCannotChangeTheDirectionOfText) {
  const std::string drawn = dot(graph(Policy(),
                                      {present("\xE2\x80\xAE"
                                               "bew")},
                                      {}));
  EXPECT_NE(drawn.find("app=?bew\n?bew-1"), std::string::npos) << drawn;
  EXPECT_EQ(drawn.find("\xE2\x80\xAE"), std::string::npos);
}

TEST(Graph, NodesHaveTheLabelsThatTheirIdentitiesShare) {
  const Graph drawn = graph(web_to_db(), {present("web"), present("db")}, {});
  const auto web = std::ranges::find(drawn.nodes, "app=web", &GraphNode::text);
  ASSERT_NE(web, drawn.nodes.end());
  EXPECT_EQ(web->labels, (LabelSet::Map{{"app", "web"}}));
  std::vector<Party> many;
  for (int i = 0; i < 400; ++i) {
    LabelSet labels = app("shop-" + std::to_string(i));
    ASSERT_TRUE(labels.set("env", "prod"));
    many.push_back(party_of(labels));
  }
  const Graph folded = graph(web_to_db(), std::move(many), {});
  ASSERT_TRUE(folded.folded);
  EXPECT_EQ(folded.nodes.front().labels, (LabelSet::Map{{"env", "prod"}}));
}

TEST(Graph, SaysWhichEdgesAreTheBaselinesAlone) {
  const Graph drawn = graph(web_to_db(), {present("web"), present("db")}, {});
  const GraphEdge* loop = find(drawn, "app=db", "app=db");
  const GraphEdge* rule = find(drawn, "app=web", "app=db");
  ASSERT_TRUE(loop != nullptr && rule != nullptr);
  EXPECT_TRUE(loop->by_baseline);
  EXPECT_FALSE(rule->by_baseline);
}

}  // namespace
}  // namespace trireme::policy
