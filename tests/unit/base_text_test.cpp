// SPDX-License-Identifier: Apache-2.0
// Errors as values, suggestions for misspelled words, JSON with a nesting limit, control
// characters.
#include <gmock/gmock.h>

#include <set>

#include "trireme/base/counted.hpp"
#include "trireme/base/json.hpp"
#include "trireme/base/nearest.hpp"
#include "trireme/base/printable.hpp"
#include "trireme/base/result.hpp"

namespace trireme {
namespace {

using nlohmann::json;

TEST(Result, AnErrorIsItsMessageAndItsHint) {
  const Status plain = fail("no room");
  ASSERT_FALSE(plain);
  EXPECT_EQ(plain.error().text(), "no room");
  const Result<int> hinted = fail("no room", "make some");
  ASSERT_FALSE(hinted);
  EXPECT_EQ(hinted.error().message, "no room");
  EXPECT_EQ(hinted.error().text(), "no room; make some");
}

TEST(Result, ErrnoIsReadWhenTheErrorIsMade) {
  errno = ENOENT;
  EXPECT_EQ(fail_errno("cannot open x").value().message,
            "cannot open x: No such file or directory");
  EXPECT_EQ(fail_errno("cannot open x", EACCES).value().message,
            "cannot open x: Permission denied");
}

TEST(Counted, ANounHasItsPlural) {
  EXPECT_EQ(counted(0, "rule"), "0 rules");
  EXPECT_EQ(counted(1, "rule"), "1 rule");
  EXPECT_EQ(counted(2, "rule"), "2 rules");
}

TEST(Counted, AListIsCutOffWithTheNumberOfTheRest) {
  const std::set<std::string> words = {"a", "b", "c", "d"};
  EXPECT_EQ(listed(std::set<std::string>(), 2), "");
  EXPECT_EQ(listed(std::set<std::string>{"a"}, 1), "a");
  EXPECT_EQ(listed(words, 4), "a, b, c, d");
  EXPECT_EQ(listed(words, 2), "a, b and 2 more");
}

TEST(Nearest, FindsOneEditInShortWordsAndTwoInLongOnes) {
  const std::vector<std::string> known = {"from", "to", "ports", "destination"};
  EXPECT_EQ(nearest("form", known), "from") << "adjacent characters swapped";
  EXPECT_EQ(nearest("frm", known), "from") << "one missing";
  EXPECT_EQ(nearest("ffrom", known), "from") << "one too many";
  EXPECT_EQ(nearest("frim", known), "from") << "another letter";
  EXPECT_EQ(nearest("frix", known), "") << "two in a word of four";
  EXPECT_EQ(nearest("destinatoin", known), "destination");
  EXPECT_EQ(nearest("dstnation", known), "destination") << "two in a long word";
  EXPECT_EQ(nearest("dstnatio", known), "") << "three";
  EXPECT_EQ(nearest("FROM", known), "from") << "case-insensitive";
}

TEST(Nearest, PrefersTheNearerAndTheFirstOfEquals) {
  EXPECT_EQ(nearest("allowed", {"followed", "allowex", "allowed"}), "allowed");
  EXPECT_EQ(nearest("cat", {"bat", "rat"}), "bat");
}

TEST(Nearest, IsSilentWhereNothingIsLikeIt) {
  EXPECT_EQ(nearest("xyz", {"from", "to"}), "");
  EXPECT_EQ(nearest("", {"from", "a"}), "")
      << "an edit that replaces the whole word is not a suggestion";
  EXPECT_EQ(nearest("from", {}), "");
  EXPECT_EQ(nearest(std::string(100'000, 'x'), {std::string(100'000, 'x')}), "")
      << "too long to compare";
}

TEST(Nearest, CompletesTheOnlyWordThatBeginsLikeIt) {
  const std::vector<std::string> known = {"description", "destination", "workloads"};
  EXPECT_EQ(nearest("work", known), "workloads");
  EXPECT_EQ(nearest("des", known), "") << "two words start with it";
  EXPECT_EQ(nearest("desc", known), "description");
  EXPECT_EQ(nearest("wo", known), "") << "too short";
}

TEST(Nearest, AsksOrSaysOtherwise) {
  EXPECT_EQ(did_you_mean("form", {"from"}, "known: from"), "did you mean 'from'?");
  EXPECT_EQ(did_you_mean("xyz", {"from"}, "known: from"), "known: from");
}

std::string nested(std::size_t levels) {
  std::string text;
  for (std::size_t i = 0; i < levels; ++i) {
    text += i % 2 == 0 ? "[" : R"({"k":)";
  }
  text += "1";
  for (std::size_t i = levels; i-- > 0;) {
    text += i % 2 == 0 ? "]" : "}";
  }
  return text;
}

TEST(Json, ReadsEveryKindOfValue) {
  const auto value = parse_json(R"({"null":null,"yes":true,"int":-1,"unsigned":18446744073709551615,
                     "real":1.5,"text":"\u00e4\u0000","list":[[],{}]})");
  ASSERT_TRUE(value) << value.error().text();
  EXPECT_TRUE(value->at("null").is_null());
  EXPECT_EQ(value->at("yes"), true);
  EXPECT_EQ(value->at("int"), -1);
  EXPECT_EQ(value->at("unsigned"), UINT64_MAX);
  EXPECT_EQ(value->at("real"), 1.5);
  EXPECT_EQ(value->at("text").get<std::string>(), std::string("\xC3\xA4\0", 3));
  EXPECT_EQ(value->at("list"), json({json::array(), json::object()}));
}

TEST(Json, RefusesWhatIsNone) {
  for (const std::string text :
       {"", "nonsense", "{", "[1,]", "{\"a\"}", "1 2", "[1]]", "\"\xff\"", "\"\\ud800\"", "1e999",
        "[\"a\nb\"]", "NaN", "'a'", "// comment\n1"}) {
    const auto value = parse_json(text);
    ASSERT_FALSE(value) << text;
    EXPECT_EQ(value.error().message, "invalid JSON") << text;
  }
}

TEST(Json, TheLimitIsTheDeepestThatIsRead) {
  EXPECT_TRUE(parse_json("1", 0));
  EXPECT_FALSE(parse_json("[]", 0));
  for (const std::size_t limit : {1U, 2U, 16U, 64U}) {
    const auto fits = parse_json(nested(limit), limit);
    ASSERT_TRUE(fits) << fits.error().text();
    EXPECT_EQ(fits->dump(), nested(limit));
    const auto deeper = parse_json(nested(limit + 1), limit);
    ASSERT_FALSE(deeper);
    EXPECT_EQ(deeper.error().message,
              "JSON is nested more than " + std::to_string(limit) + " levels deep");
  }
}

TEST(Json, CountsLevelsAndNotContainers) {
  std::string wide = "[";
  for (int i = 0; i < 10'000; ++i) {
    wide += "[{}],";
  }
  wide += "[]]";
  EXPECT_TRUE(parse_json(wide, 3));
  EXPECT_FALSE(parse_json(wide, 2));
  EXPECT_TRUE(parse_json(R"(["[[[[{{{{", "\"[[[["])", 1)) << "brackets in strings do not count";
}

TEST(Json, WhatIsTooDeepIsRefusedBeforeItIsBuilt) {
  // A recursive parser would overflow the stack, and so would copying the value.
  EXPECT_FALSE(parse_json(std::string(1'000'000, '[')));
  EXPECT_FALSE(parse_json(nested(1'000'000)));
}

TEST(Printable, ControlCharactersBecomeQuestionMarks) {
  for (const char* control : {"\x01", "\t", "\n", "\x1B", "\x1F", "\x7F",
                              // C1: U+0080 to U+009F
                              "\xC2\x80", "\xC2\x9B", "\xC2\x9F",
                              // U+061C, U+200E, U+200F, U+2028 to U+202E, U+2066 to U+2069
                              "\xD8\x9C", "\xE2\x80\x8E", "\xE2\x80\x8F", "\xE2\x80\xA8",
                              "\xE2\x80\xAA", "\xE2\x80\xAE", "\xE2\x81\xA6", "\xE2\x81\xA9"}) {
    const std::string text = control;
    EXPECT_EQ(printable("x" + text + text + "y"), "x??y") << text.size();
    EXPECT_EQ(control_at("x" + text, 1).size, text.size());
  }
  EXPECT_EQ(printable(std::string(1, '\0')), "?");
  EXPECT_EQ(control_at("\xE2\x80\xAE", 0).code, 0x202EU);
  EXPECT_EQ(control_at("\xC2\x9B", 0).code, 0x9BU);
}

TEST(Printable, AllOtherTextIsLeftAlone) {
  for (const char* text :
       {"", "app=web, [31m", "\xC2\xA0", "\xC3\x9B", "\xD8\x9B", "\xE2\x80\x8D", "\xE2\x80\xA7",
        "\xE2\x80\xAF", "\xE2\x81\xA5", "\xE2\x81\xAA", "\xE2\x82\xAC", "\xF0\x9F\x98\x80",
        // incomplete
        "\xC2", "\xE2", "\xE2\x80", "\xE2\x80x"}) {
    EXPECT_EQ(printable(text), text);
    EXPECT_EQ(control_at(text, 0).size, 0U) << text;
  }
}

TEST(Printable, KeepsTheEndsOfLinesWhereTextHasLines) {
  EXPECT_EQ(printable_lines("a\x1b\n\nb\x7F"), "a?\n\nb?");
  EXPECT_EQ(printable_lines("a\n"), "a\n");
  EXPECT_EQ(printable_lines(""), "");
}

}  // namespace
}  // namespace trireme
