// SPDX-License-Identifier: Apache-2.0
// `trirectl top` without its screen: rates, order, filter, and columns that fit.
#include <gmock/gmock.h>

#include <algorithm>
#include <string>

#include "../../src/cli/top_layout.hpp"
#include "../../src/cli/top_model.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

json pair_of(const std::string& from, const std::string& to, int connections, int denied) {
  return {{"from", from}, {"to", to},     {"connections", connections}, {"denied", denied},
          {"audited", 0}, {"allowed", 0}, {"last", 1790000000}};
}

json answer_of(double at, json pairs) {
  return {{"at", at},
          {"read", at},
          {"since", 1.0},
          {"complete", true},
          {"identities", json::array({json::object({{"labels", "app=db"}, {"workloads", 2}})})},
          {"pairs", std::move(pairs)},
          {"left_out", {{"identities", 0}, {"pairs", 0}}}};
}

TrafficAnswer parsed(const json& answer) {
  auto made = TrafficAnswer::read_json(answer);
  EXPECT_TRUE(made) << made.error().text();
  return made.value_or(TrafficAnswer());
}

TopRow only_row(const TopModel& model) {
  const auto rows = model.rows(TopView::pairs);
  EXPECT_THAT(rows, SizeIs(1));
  return rows.empty() ? TopRow() : rows.front();
}

TEST(TopModel, RatesNeedTwoAnswers) {
  TopModel model;
  json pair = pair_of("app=web", "app=db", 3, 10);
  pair["bytes"] = 1000;
  model.take(parsed(answer_of(100, json::array({pair}))));
  EXPECT_EQ(only_row(model).connections, 3U);
  EXPECT_EQ(only_row(model).denied_rate, std::nullopt);
  EXPECT_EQ(only_row(model).bytes_rate, std::nullopt);
  pair["bytes"] = 5000;
  pair["denied"] = 14;
  model.take(parsed(answer_of(102, json::array({pair}))));
  EXPECT_EQ(only_row(model).denied_rate, 2.0);
  EXPECT_EQ(only_row(model).bytes_rate, 2000.0);
  model.take(parsed(answer_of(102, json::array({pair}))));
  EXPECT_EQ(only_row(model).denied_rate, 2.0) << "the same answer again";
}

TEST(TopModel, BytesThatAreNotKnownHaveNoRate) {
  TopModel model;
  for (const double at : {100.0, 101.0}) {
    model.take(parsed(answer_of(at, json::array({pair_of("app=web", "app=db", 0, 1)}))));
  }
  EXPECT_EQ(only_row(model).bytes_rate, std::nullopt);
  EXPECT_EQ(only_row(model).denied_rate, 0.0);
}

TEST(TopModel, ConnectionsThatWereNotReadAgainKeepTheirRate) {
  TopModel model;
  json pair = pair_of("app=web", "app=db", 1, 0);
  for (const int second : {0, 1, 2}) {
    pair["bytes"] = 1000 * std::min(second, 1);
    json answer = answer_of(100 + second, json::array({pair}));
    answer["read"] = 100 + std::min(second, 1);
    model.take(parsed(answer));
  }
  EXPECT_EQ(only_row(model).bytes_rate, 1000.0);
}

TEST(TopModel, ANewPairBeganSince) {
  TopModel model;
  model.take(parsed(answer_of(100, json::array())));
  model.take(parsed(answer_of(101, json::array({pair_of("app=web", "app=db", 0, 3)}))));
  EXPECT_EQ(only_row(model).denied_rate, 3.0);
  TopModel crowded;
  json first = answer_of(100, json::array());
  first["left_out"]["pairs"] = 1;
  crowded.take(parsed(first));
  crowded.take(parsed(answer_of(101, json::array({pair_of("app=web", "app=db", 0, 3)}))));
  EXPECT_EQ(only_row(crowded).denied_rate, std::nullopt) << "it may have been left out";
}

TEST(TopModel, CountersThatBeginAgainHaveNoRate) {
  TopModel model;
  model.take(parsed(answer_of(100, json::array({pair_of("app=web", "app=db", 0, 3)}))));
  json restarted = answer_of(101, json::array({pair_of("app=web", "app=db", 0, 9)}));
  restarted["since"] = 100.5;
  model.take(parsed(restarted));
  EXPECT_EQ(only_row(model).denied_rate, std::nullopt) << "another daemon";
  TopModel forgotten;
  forgotten.take(parsed(answer_of(100, json::array({pair_of("app=web", "app=db", 0, 3)}))));
  forgotten.take(parsed(answer_of(101, json::array({pair_of("app=web", "app=db", 0, 1)}))));
  EXPECT_EQ(only_row(forgotten).denied_rate, std::nullopt);
}

TEST(TopModel, ALostDaemonLeavesNoNumbers) {
  TopModel model;
  model.take(parsed(answer_of(100, json::array({pair_of("app=web", "app=db", 1, 1)}))));
  model.lose();
  EXPECT_FALSE(model.has_answer());
  EXPECT_THAT(model.rows(TopView::pairs), IsEmpty());
  EXPECT_THAT(model.rows(TopView::identities), IsEmpty());
  model.take(parsed(answer_of(101, json::array({pair_of("app=web", "app=db", 1, 9)}))));
  EXPECT_EQ(only_row(model).denied_rate, std::nullopt);
}

TEST(TopModel, IdentitiesSumUpTheirPairs) {
  TopModel model;
  model.take(parsed(answer_of(
      100, json::array({pair_of("app=web", "app=db", 3, 1), pair_of("app=db", "@world", 2, 0),
                        pair_of("app=db", "app=db", 1, 0)}))));
  const auto rows = arranged(model.rows(TopView::identities), {.column = TopColumn::name});
  ASSERT_THAT(rows, SizeIs(3));
  EXPECT_EQ(rows[0].name, "@world");
  EXPECT_EQ(rows[0].workloads, std::nullopt);
  EXPECT_EQ(rows[1].name, "app=db");
  EXPECT_EQ(rows[1].workloads, 2U);
  EXPECT_EQ(rows[1].connections, 6U) << "a pair with itself counts once";
  EXPECT_EQ(rows[2].denied, 1U);
}

TEST(TopModel, TextOfOthersIsHarmless) {
  const TrafficAnswer answer = parsed(answer_of(100, json::array({pair_of("app=\x1b[31m",
                                                                          "app=\xe2\x80\xae"
                                                                          "bd",
                                                                          0, 0)})));
  EXPECT_EQ(answer.pairs.begin()->first, (TrafficAnswer::Key("app=?[31m", "app=?bd")));
}

TEST(TopModel, AnotherAnswerIsAnError) {
  EXPECT_FALSE(TrafficAnswer::read_json(json::object()));
  EXPECT_FALSE(TrafficAnswer::read_json(json()));
  json answer = answer_of(100, json::array({json::object({{"from", 7}})}));
  EXPECT_FALSE(TrafficAnswer::read_json(answer));
}

std::vector<std::string> names_of(const std::vector<TopRow>& rows) {
  std::vector<std::string> names;
  for (const TopRow& row : rows) {
    names.push_back(row.name);
  }
  return names;
}

TEST(TopModel, RowsAreSortedAndFiltered) {
  std::vector<TopRow> rows(3);
  rows[0] = {.name = "app=b", .other = "@world"};
  rows[1] = {.name = "app=c", .other = "@world", .denied_rate = 2.0};
  rows[2] = {.name = "app=a", .other = "app=B", .denied_rate = 0.0};
  EXPECT_THAT(names_of(arranged(rows, {.column = TopColumn::name})),
              ElementsAre("app=a", "app=b", "app=c"));
  EXPECT_THAT(names_of(arranged(rows, {.column = TopColumn::denied_rate})),
              ElementsAre("app=c", "app=a", "app=b"))
      << "what is not known comes last";
  EXPECT_THAT(names_of(arranged(rows, {.column = TopColumn::denied_rate, .reversed = true})),
              ElementsAre("app=b", "app=a", "app=c"));
  EXPECT_THAT(names_of(arranged(rows, {.column = TopColumn::name, .filter = "=b"})),
              ElementsAre("app=a", "app=b"));
  EXPECT_THAT(arranged(rows, {.filter = "nothing"}), IsEmpty());
}

TEST(TopModel, ColumnsGoAround) {
  EXPECT_EQ(next_column(TopView::pairs, TopColumn::name, -1), TopColumn::last);
  EXPECT_EQ(next_column(TopView::pairs, TopColumn::last, 1), TopColumn::name);
  EXPECT_EQ(next_column(TopView::identities, TopColumn::name, 1), TopColumn::workloads);
}

class TopLayout : public ::testing::Test {
 protected:
  void SetUp() override { use_wide_characters(); }
};

TEST_F(TopLayout, WidthsAreThoseOfTerminals) {
  EXPECT_EQ(display_width("app=web"), 7U);
  EXPECT_EQ(display_width("app=\xe6\x97\xa5\xe6\x9c\xac"), 8U) << "two wide characters";
  EXPECT_EQ(display_width("e\xcc\x81"), 1U) << "a combining accent";
  EXPECT_EQ(display_width("\xff\xfe"), 2U) << "no UTF-8";
  EXPECT_EQ(fitted("abc", 5), "abc  ");
  EXPECT_EQ(fitted("12", 5, true), "   12");
  EXPECT_EQ(fitted("app=web,env=prod", 7), "app…rod");
  EXPECT_EQ(fitted("abc", 0), "");
  for (std::size_t width = 1; width < 12; ++width) {
    EXPECT_EQ(display_width(fitted("\xe6\x97\xa5\xe6\x9c\xac\xe6\x97\xa5\xe6\x9c\xac", width)),
              width);
  }
}

TEST_F(TopLayout, RatesAreShort) {
  EXPECT_EQ(rate_text(std::nullopt), "-");
  EXPECT_EQ(rate_text(0.0), "0");
  EXPECT_EQ(rate_text(0.5), "0.5");
  EXPECT_EQ(rate_text(12'345.0), "12.3k");
  EXPECT_EQ(rate_text(999'999.0), "1.0M");
  EXPECT_LE(rate_text(1e30).size(), 6U);
}

TEST_F(TopLayout, CommonLabelsAreLeftOut) {
  TopRow row{.name = "app=web,env=prod", .other = "app=db,env=prod"};
  shorten_names(row);
  EXPECT_EQ(row.name, "app=web,…");
  EXPECT_EQ(row.other, "app=db,…");
  row = {.name = "app=web", .other = "@world"};
  shorten_names(row);
  EXPECT_EQ(row.name, "app=web");
  EXPECT_EQ(row.other, "@world");
}

TEST_F(TopLayout, ColumnsFitAnyWidth) {
  TopRow row{.name = std::string(300, 'x'), .other = "app=db", .connections = 123'456'789};
  row.denied = 1U << 31U;
  for (const TopView view : {TopView::pairs, TopView::identities}) {
    for (std::size_t width = 1; width < 200; ++width) {
      std::size_t end = 0;
      for (const PlacedColumn& column : placed(view, TopColumn::last, {row}, width)) {
        EXPECT_GE(column.at, end);
        end = column.at + column.width;
      }
      EXPECT_LE(end, width);
    }
  }
}

TEST_F(TopLayout, ANarrowTerminalHasFewerNumbers) {
  const TopRow row{.name = std::string(20, 'x'), .other = std::string(20, 'y')};
  const auto has = [&row](std::size_t width, TopColumn sorted_by, TopColumn wanted) {
    const auto columns = placed(TopView::pairs, sorted_by, {row}, width);
    return std::ranges::find(columns, wanted, &PlacedColumn::column) != columns.end();
  };
  EXPECT_TRUE(has(120, TopColumn::name, TopColumn::last));
  EXPECT_FALSE(has(70, TopColumn::name, TopColumn::last));
  EXPECT_TRUE(has(70, TopColumn::last, TopColumn::last)) << "the rows are sorted by it";
  EXPECT_TRUE(has(70, TopColumn::name, TopColumn::denied_rate));
}

TEST_F(TopLayout, TheSelectedRowIsFoldedAndWhole) {
  EXPECT_THAT(folded("", 10), ElementsAre(""));
  EXPECT_THAT(folded("app=web", 10), ElementsAre("app=web"));
  EXPECT_THAT(folded("app=web", 3), ElementsAre("app", "=we", "b"));
  EXPECT_THAT(folded("app=web", 0), ElementsAre("app=web"));
}

}  // namespace
}  // namespace trireme::cli
