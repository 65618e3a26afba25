// SPDX-License-Identifier: Apache-2.0
// The page: what text of others can do in it, and what it may load and run.
#include "page.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "denial_list.hpp"
#include "page_data.hpp"
#include "page_files.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

json denied(const std::string& from, const std::string& to, unsigned port) {
  return {{"time", "2026-01-31T12:00:00.000000Z"},
          {"verdict", "deny"},
          {"source", {{"labels", {{"app", from}}}, {"workload", from + ".scope"}}},
          {"destination", {{"labels", {{"app", to}}}, {"workload", to + ".scope"}}},
          {"protocol", "tcp"},
          {"port", port},
          {"rule", ""},
          {"reason", "no rule allows it"}};
}

TEST(Page, DataCannotEndItsElement) {
  const std::string text = page({{"title", "app=</script><!--<script>"}});
  EXPECT_THAT(text, HasSubstr("app=\\u003c/script>\\u003c!--\\u003cscript>"));
  EXPECT_THAT(text, Not(HasSubstr("app=</script>")));
}

TEST(Page, EachPartIsInItsPlaceOnceWhateverTheDataIs) {
  const std::string text = page({{"title", "@SCRIPT@ @STYLE@ @DATA@"}});
  EXPECT_THAT(text, HasSubstr("@SCRIPT@ @STYLE@ @DATA@")) << "text of others is not a place";
  EXPECT_THAT(text, Not(HasSubstr("\"@POLICY@\"")));
  EXPECT_EQ(text.find("</style>"), text.rfind("</style>"));
  EXPECT_TRUE(text.ends_with("</html>\n"));
}

TEST(Page, ItsPolicyAllowsOnlyItsOwnScript) {
  const std::string policy = page_policy();
  EXPECT_THAT(policy, HasSubstr("default-src 'none'"));
  EXPECT_THAT(policy, HasSubstr("script-src 'sha256-"));
  EXPECT_THAT(policy, Not(HasSubstr("unsafe")));
  EXPECT_THAT(page(json::object()), HasSubstr("content=\"" + policy + "\""));
}

/// Inline handlers and eval() would need a weaker policy; these words would end the element early.
TEST(Page, ItsFilesFitIntoOnePage) {
  EXPECT_THAT(page_script(), HasSubstr("dagre"));
  EXPECT_THAT(std::string(page_script()), Not(HasSubstr("</script")));
  EXPECT_THAT(std::string(page_script()), Not(HasSubstr("<!--")));
  EXPECT_THAT(std::string(page_style()), Not(HasSubstr("</style")));
  EXPECT_THAT(std::string(page_markup()), Not(testing::ContainsRegex(" on[a-z]+=")));
  EXPECT_THAT(std::string(page_script()), Not(HasSubstr("eval(")));
}

TEST(Page, TextIsEscapedInMarkup) {
  EXPECT_EQ(html_text("<img src=x onerror=\"a('&')\">"),
            "&lt;img src=x onerror=&quot;a(&#39;&amp;&#39;)&quot;&gt;");
}

TEST(DenialList, OneKindIsOneEntryWithItsCount) {
  DenialList list(10);
  list.add(denied("web", "db", 80), 1);
  list.add(denied("api", "db", 80), 2);
  list.add(denied("web", "db", 80), 3);
  const json all = list.since(0);
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0]["from"], "app=web") << "the newest first";
  EXPECT_EQ(all[0]["count"], 2);
  EXPECT_EQ(list.since(2).size(), 1U);
  EXPECT_EQ(list.since(3).size(), 0U);
}

TEST(DenialList, OneSourceCannotDisplaceOthers) {
  DenialList list(10);
  list.add(denied("quiet", "db", 80), 1);
  std::uint64_t change = 1;
  for (unsigned port = 1; port <= 100; ++port) {
    list.add(denied("loud", "db", port), ++change);
  }
  EXPECT_EQ(list.ids().size(), 10U);
  EXPECT_EQ(list.left_out(), 91U);
  const json all = list.since(0);
  EXPECT_EQ(all.back()["from"], "app=quiet");
  EXPECT_NE(list.flow(all.back()["id"].get<std::uint64_t>()), nullptr);
  EXPECT_EQ(list.flow(2), nullptr) << "dropped";
}

/// A scan from outside, or one remote host with many addresses.
TEST(DenialList, AddressesOfTheWorldAreOneSource) {
  DenialList list(10);
  std::uint64_t change = 0;
  for (unsigned port = 1; port <= 3; ++port) {
    list.add(denied("quiet", "db", port), ++change);
  }
  for (int i = 1; i <= 100; ++i) {
    json flow = denied("", "db", 80);
    flow["source"] = {{"entity", "@world"}, {"address", "203.0.113." + std::to_string(i)}};
    list.add(flow, ++change);
  }
  const json all = list.since(0);
  ASSERT_EQ(all.size(), 10U);
  EXPECT_EQ(std::ranges::count_if(
                all, [](const json& denial) { return denial["from_end"] == "app=quiet"; }),
            3);
}

TEST(DenialList, ManySourcesAreBoundedToo) {
  DenialList list(10);
  std::uint64_t change = 0;
  for (int i = 200; i > 100; --i) {
    list.add(denied("app-" + std::to_string(i), "db", 80), ++change);
  }
  EXPECT_EQ(list.ids().size(), 10U);
}

TEST(DenialList, TextsArePrintable) {
  json flow = denied("web", "db", 80);
  flow["reason"] = "a\x1b[31m\nb";
  EXPECT_EQ(denial_json(flow)["reason"], "a?[31m?b");
}

/// No rule decides about it, neither here nor elsewhere.
TEST(DenialAnswer, OfAnEndInQuarantine) {
  json flow = denied("web", "db", 80);
  flow["destination"]["quarantined"] = true;
  flow["reason"] = "the destination is in quarantine";
  const json answer = denial_answer(Globals(), DrawnPolicy(), flow);
  EXPECT_EQ(answer.at("why"), "the destination is in quarantine\n");
  EXPECT_EQ(answer.at("allow"),
            "# No rule on this host can allow it: the destination is in quarantine\n");
}

TEST(DenialList, EndsNameTheNodesOfTheMap) {
  json flow = denied("web", "db", 80);
  flow["source"] = {{"entity", "@world"}, {"address", "10.0.0.53"}, {"networks", {"dns"}}};
  EXPECT_EQ(denial_json(flow)["from_end"], "@dns");
  flow["source"] = {{"entity", "@host"}, {"address", "127.0.0.1"}};
  EXPECT_EQ(denial_json(flow)["from_end"], "@host");
  EXPECT_EQ(denial_json(flow)["to_end"], "app=db");
}

}  // namespace
}  // namespace trireme::cli
