// SPDX-License-Identifier: Apache-2.0
// Tables and flow lines fit the terminal, whatever the names and labels are.
#include <gtest/gtest.h>

#include <sstream>

#include "command.hpp"
#include "flow_line.hpp"
#include "loaded.hpp"
#include "table.hpp"
#include "usage.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

std::vector<std::string> lines_in(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    lines.push_back(line);
  }
  return lines;
}

TEST(RecentFlows, WhatTheDaemonHadNoRoomForIsSaid) {
  EXPECT_EQ(forgotten_text(0), "");
  EXPECT_NE(forgotten_text(1).find("no room for 1 kind of flow"), std::string::npos);
  EXPECT_NE(forgotten_text(2).find("no room for 2 kinds of flow"), std::string::npos);
}

TEST(Table, FitsTheWidthAndLosesNothing) {
  const std::string labels =
      "app=a-service-with-a-long-name,env=production,team=platform-engineering,tier=frontend";
  Table table({"COUNT", "LAST", "VERDICT", "FROM", "TO", "PORT", "WHY"});
  table.add({"123456", "14:26:26", "deny", labels, labels, "tcp/65535",
             "deny 'a rule with a long name' (policy.d/10-very-long-file-name.toml:123:1)"});
  for (const std::size_t width : {80U, 120U, 100U}) {
    const auto lines = lines_in(table.render(width));
    std::string all;
    for (const std::string& line : lines) {
      EXPECT_LE(length(line), width) << line;
      all += line;
    }
    EXPECT_NE(all.find("platform"), std::string::npos);
  }
}

TEST(Table, ShortRowsStayOnOneLine) {
  Table table({"NAME", "LABELS"});
  table.add({"web", "app=web"});
  EXPECT_EQ(table.render(80), "NAME  LABELS\nweb   app=web\n");
}

TEST(Text, WrapsByCharactersNotBytes) {
  EXPECT_EQ(wrap("äöü ßä", 4, 0), "äöü\nßä");
  EXPECT_EQ(wrap("one two three four five", 12, 2), "one two\n  three\n  four five");
  EXPECT_EQ(wrap("short", 80, 4), "short");
  EXPECT_EQ(wrap("", 80, 4), "");
}

TEST(Text, ControlCharactersPlayNoTricks) {
  const json value = {{"name", "a\x1b\x7F\u009B31m\u00FC"}};
  EXPECT_EQ(json_text(value), R"({"name":"a\u001b\u007f\u009b31mü"})");
  EXPECT_EQ(json::parse(json_text(value)), value);
}

// The daemon's messages can contain names and labels of others.
TEST(Text, ErrorsAreHarmless) {
  EXPECT_EQ(error_lines("trirun", {.message = "label 'a\x1B[1m' is\ninvalid", .hint = {}}),
            "trirun: label 'a?[1m' is\ninvalid\n");
  EXPECT_EQ(error_lines("trirun", {.message = "a", .hint = "b\xC2\x9B"}),
            "trirun: a\ntrirun: hint: b?\n");
}

// The columns of a line stay in their order, whatever a label contains.
TEST(Text, LabelsCannotChangeTheDirectionOfALine) {
  Table table({"NAME", "STATE"});
  table.add({"app=\xE2\x80\xAEneddih\xE2\x81\xA6", "quarantined"});
  EXPECT_EQ(table.render(80), "NAME          STATE\napp=?neddih?  quarantined\n");
  const json value = {{"name", "a\xE2\x80\xAEx\xE2\x80\x8F\xE2\x82\xAC"}};
  EXPECT_EQ(json_text(value), R"({"name":"a\u202ex\u200f€"})");
  EXPECT_EQ(json::parse(json_text(value)), value);
}

json flow(const std::string& from, const std::string& to) {
  return {{"time", "2020-01-31T12:00:00.123456Z"},
          {"verdict", "deny"},
          {"source", {{"labels", {{"app", from}}}, {"address", "10.0.0.1"}}},
          {"destination", {{"labels", {{"app", to}}}, {"address", "2001:db8::1"}}},
          {"protocol", "tcp"},
          {"port", 5432},
          {"rule", ""},
          {"reason", "no rule allows it"}};
}

/// The text without white space, to find words that are wrapped.
std::string packed(std::string text) {
  std::erase_if(text, [](char c) { return c == ' ' || c == '\n'; });
  return text;
}

TEST(FlowLine, WrapsAndCutsNothing) {
  const std::string name(200, 'x');
  for (const auto& [from, to] : {std::pair{name + "1", name + "2"},
                                 {std::string("web"), name},
                                 {name, std::string("db")},
                                 {std::string(60, 'a') + "1", std::string(60, 'a') + "2"},
                                 {std::string("web"), std::string("db")}}) {
    for (std::size_t width = 72; width < 200; width += 13) {
      const std::string text = flow_line(flow(from, to), width);
      for (const std::string& line : lines_in(text)) {
        EXPECT_LE(length(line), width) << line;
      }
      const std::string all = packed(text);
      EXPECT_NE(all.find("app=" + from), std::string::npos) << text;
      EXPECT_NE(all.find("app=" + to), std::string::npos) << text;
      EXPECT_NE(all.find("tcp/5432"), std::string::npos) << text;
      EXPECT_NE(all.find("noruleallowsit"), std::string::npos) << text;
    }
  }
  EXPECT_NE(
      flow_line(flow("web", "db"), 80).find(" deny  app=web -> app=db tcp/5432  no rule allows it"),
      std::string::npos);
  const std::string all = flow_line(flow(name, name), std::string::npos);
  EXPECT_EQ(all.find('\n'), std::string::npos) << "a pipe has no width";
}

TEST(FlowLine, LeavesOutWhatBothEndsShare) {
  json seen = flow("web", "db");
  seen["source"]["labels"]["env"] = "prod";
  seen["destination"]["labels"]["env"] = "prod";
  EXPECT_NE(flow_line(seen, 80).find(" app=web,… -> app=db,… tcp/5432 "), std::string::npos);
  EXPECT_NE(wide_flow_line(seen).find("app=web,env=prod [10.0.0.1] -> app=db,env=prod "),
            std::string::npos);
  seen["destination"]["labels"]["app"] = "web";
  EXPECT_EQ(end_texts(seen).source, "app=web,env=prod");
  EXPECT_EQ(end_texts(seen).destination, "same labels");
}

TEST(FlowLine, WorkloadsWithoutLabelsHaveTheirNames) {
  json seen = flow("web", "db");
  seen["source"]["labels"] = json::object();
  EXPECT_EQ(end_texts(seen).source, "-") << "nothing is known";
  seen["source"]["workload"] = "shop_worker_1";
  EXPECT_EQ(end_texts(seen).source, "shop_worker_1");
  EXPECT_EQ(end_texts(seen).destination, "app=db");
  seen["source"]["labels"] = {{"zone", "eu"}};
  seen["source"]["host_labels"] = {"zone"};
  EXPECT_EQ(end_texts(seen).source, "shop_worker_1") << "every workload of the host has the label";
  seen["destination"] = {{"quarantined", true}, {"workload", "db.service"}};
  EXPECT_EQ(end_texts(seen).destination, "db.service (quarantined)");
  seen["destination"] = {{"ended", true}, {"address", "10.0.0.9"}};
  EXPECT_EQ(end_texts(seen).destination, "(ended)");
}

TEST(FlowLine, InFullHasEverything) {
  json seen = flow("web", "db");
  EXPECT_EQ(wide_flow_line(seen),
            "2020-01-31T12:00:00.123456Z deny  app=web [10.0.0.1] -> app=db [2001:db8::1] tcp/5432 "
            " no rule allows it");
  seen["source"]["workload"] = "web.scope";
  seen["destination"]["host"] = "db-1";
  seen["rule"] = "deny 'x' (policy.toml:1:1)";
  seen["verdicts"] = {{"source", "allow"}, {"destination", "deny"}};
  seen["policy"] = "0123456789abcdef";
  EXPECT_EQ(wide_flow_line(seen),
            "2020-01-31T12:00:00.123456Z deny  web.scope app=web [10.0.0.1] -> "
            "app=db [2001:db8::1] on db-1 tcp/5432  no rule allows it: deny 'x' "
            "(policy.toml:1:1); allow at the source, deny at the destination; policy "
            "0123456789abcdef");
  seen["verdicts"] = {{"source", nullptr}, {"destination", "deny"}};
  EXPECT_EQ(wide_flow_line(seen).find("at the source"), std::string::npos);
}

TEST(FlowLine, PeersWithoutLabelsShowTheirAddress) {
  const auto text = [](const json& end) {
    return end_texts({{"source", end}, {"destination", end}}).source;
  };
  EXPECT_EQ(text({{"entity", "@world"}, {"address", "192.0.2.1"}}), "@world 192.0.2.1");
  EXPECT_EQ(text({{"entity", "@host"}, {"address", "127.0.0.1"}}), "@host");
  EXPECT_EQ(text({{"quarantined", true}, {"address", "127.0.0.1"}}), "(quarantined)");
  EXPECT_EQ(text({{"entity", "@world"}, {"address", "192.0.2.1"}, {"names", {"deb.example"}}}),
            "@world 192.0.2.1 deb.example");
}

}  // namespace
}  // namespace trireme::cli
