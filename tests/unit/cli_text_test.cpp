// SPDX-License-Identifier: Apache-2.0
// Tables and flow lines fit the terminal, whatever the names and labels are.
#include <gtest/gtest.h>

#include <sstream>

#include "flow_line.hpp"
#include "table.hpp"

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

TEST(Text, ClipsAndWrapsByCharactersNotBytes) {
  EXPECT_EQ(clip("äöüß", 4), "äöüß");
  EXPECT_EQ(clip("äöüßx", 4), "äöü…");
  EXPECT_EQ(clip("abc", 0), "");
  EXPECT_EQ(wrap("one two three four five", 12, 2), "one two\n  three\n  four five");
  EXPECT_EQ(wrap("short", 80, 4), "short");
  EXPECT_EQ(wrap("", 80, 4), "");
}

TEST(Text, ControlCharactersPlayNoTricks) {
  EXPECT_EQ(printable("a\x1b[31mb\nc"), "a?[31mb?c");
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

TEST(FlowLine, FitsWhateverTheLabels) {
  const std::string name(200, 'x');
  for (const auto& [from, to] : {std::pair{name, name},
                                 {std::string("web"), name},
                                 {name, std::string("db")},
                                 {std::string("web"), std::string("db")}}) {
    for (std::size_t width = 72; width < 200; width += 13) {
      const std::string line = flow_line(flow(from, to), width);
      EXPECT_LE(length(line), width) << line;
      EXPECT_NE(line.find("tcp/5432"), std::string::npos) << line;
      EXPECT_NE(line.find("no rule allows"), std::string::npos) << line;
    }
  }
  EXPECT_NE(
      flow_line(flow("web", "db"), 80).find(" deny  app=web -> app=db tcp/5432  no rule allows it"),
      std::string::npos);
}

TEST(FlowLine, InFullHasEverything) {
  EXPECT_EQ(full_flow_line(flow("web", "db")),
            "2020-01-31T12:00:00.123456Z deny  app=web [10.0.0.1] -> app=db [2001:db8::1] tcp/5432 "
            " no rule allows it");
}

TEST(FlowLine, PeersWithoutLabelsShowTheirAddress) {
  EXPECT_EQ(end_text({{"entity", "@world"}, {"address", "192.0.2.1"}}, false), "@world 192.0.2.1");
  EXPECT_EQ(end_text({{"entity", "@host"}, {"address", "127.0.0.1"}}, false), "@host");
  EXPECT_EQ(end_text({{"quarantined", true}, {"address", "127.0.0.1"}}, false), "(quarantined)");
}

}  // namespace
}  // namespace trireme::cli
