// SPDX-License-Identifier: Apache-2.0
// Who gets the page of `trirectl ui`, and what its routes answer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "known_flows.hpp"
#include "map_pace.hpp"
#include "ui_access.hpp"
#include "ui_live.hpp"
#include "ui_routes.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

constexpr std::uint16_t kPort = 9470;

UiRequest get(const std::string& path) {
  UiRequest request;
  request.method = "GET";
  request.path = path;
  request.host = "127.0.0.1:9470";
  return request;
}

class UiTest : public testing::Test {
 protected:
  [[nodiscard]] std::string token() const {
    const std::string url = access_.url();
    return url.substr(url.find("token=") + 6);
  }
  [[nodiscard]] UiRequest first() const {
    UiRequest request = get("/");
    request.query["token"] = token();
    return request;
  }
  /// As the page of the session sends it.
  [[nodiscard]] UiRequest known(const std::string& path) const {
    UiRequest request = get(path);
    request.session = access_.session();
    return request;
  }

  UiAccess access_ = UiAccess::open(kPort).value();
  UiLive live_{10};
  UiRoutes routes_{access_, live_, [](const json& flow) {
                     return json{{"why", flow.value("reason", "")}, {"allow", "[[allow]]"}};
                   }};
};

TEST_F(UiTest, TheTokenWorksOnce) {
  EXPECT_EQ(access_.enter(first()), Entry::token);
  EXPECT_EQ(access_.enter(first()), Entry::used_token);
  const UiAnswer refused = routes_.answer(first());
  EXPECT_EQ(refused.status, 403U);
  EXPECT_THAT(refused.body, HasSubstr("start it again"));
  EXPECT_THAT(refused.body, Not(HasSubstr("<script")));
}

TEST_F(UiTest, SecretsAreDifferentAndLong) {
  EXPECT_EQ(token().size(), 64U);
  EXPECT_EQ(access_.session().size(), 64U);
  EXPECT_EQ(access_.instance().size(), 64U);
  EXPECT_NE(access_.session(), token());
  EXPECT_NE(access_.instance(), access_.session());
  const UiAccess other = UiAccess::open(kPort).value();
  EXPECT_NE(other.url(), access_.url());
  EXPECT_NE(other.session(), access_.session());
  EXPECT_NE(other.instance(), access_.instance());
}

TEST_F(UiTest, WithoutTheSessionThereIsNothing) {
  UiRequest wrong = first();
  wrong.query["token"].back() = wrong.query["token"].back() == '0' ? '1' : '0';
  EXPECT_EQ(access_.enter(wrong), Entry::no_session);
  wrong.query["token"] = token().substr(0, 63);
  EXPECT_EQ(access_.enter(wrong), Entry::no_session);
  wrong.query["token"] = "";
  EXPECT_EQ(access_.enter(wrong), Entry::no_session);
  UiRequest session = known("/api/updates");
  session.session.back() = session.session.back() == '0' ? '1' : '0';
  EXPECT_EQ(access_.enter(session), Entry::no_session);
  session.session = token();
  EXPECT_EQ(access_.enter(session), Entry::no_session) << "the token is not the session";
  for (const char* path : {"/api/updates", "/api/denial", "/nothing"}) {
    EXPECT_EQ(routes_.answer(get(path)).status, 401U) << path;
    UiRequest with_token = first();
    with_token.path = path;
    const UiAnswer refused = routes_.answer(with_token);
    EXPECT_EQ(refused.status, 401U) << "the token is for the page only";
    EXPECT_THAT(refused.body, Not(HasSubstr(access_.instance())));
  }
  EXPECT_EQ(access_.enter(first()), Entry::token) << "nothing of this has used the token up";
}

/// What a reload gets: neither data nor what another page needs to get them.
TEST_F(UiTest, ThePageAloneHasNoSecret) {
  EXPECT_EQ(access_.enter(get("/")), Entry::page);
  const UiAnswer answer = routes_.answer(get("/"));
  EXPECT_EQ(answer.status, 200U);
  for (const std::string& secret : {token(), access_.session(), access_.instance()}) {
    EXPECT_THAT(answer.body, Not(HasSubstr(secret)));
  }
  EXPECT_EQ(access_.enter(first()), Entry::token);
}

TEST_F(UiTest, AHeadRequestDoesNotUseTheTokenUp) {
  UiRequest preview = first();
  preview.method = "HEAD";
  EXPECT_EQ(access_.enter(preview), Entry::no_session);
  EXPECT_EQ(access_.enter(first()), Entry::token);
}

/// DNS rebinding: a page of another name whose address is now this host's.
TEST_F(UiTest, OtherHostsAreRefused) {
  for (const char* host : {"", "evil.example:9470", "127.0.0.1", "127.0.0.1:9471",
                           "127.0.0.1:94700", "localhost.evil.example:9470"}) {
    UiRequest request = known("/api/updates");
    request.host = host;
    EXPECT_EQ(access_.enter(request), Entry::wrong_host) << host;
    request = first();
    request.host = host;
    EXPECT_EQ(access_.enter(request), Entry::wrong_host) << host;
  }
  for (const char* host : {"127.0.0.1:9470", "localhost:9470", "[::1]:9470"}) {
    UiRequest request = known("/api/updates");
    request.host = host;
    EXPECT_EQ(access_.enter(request), Entry::session) << host;
  }
}

TEST_F(UiTest, OtherSitesAreRefused) {
  for (const char* site : {"cross-site", "same-site", "none"}) {
    UiRequest request = known("/api/updates");
    request.fetch_site = site;
    EXPECT_EQ(access_.enter(request), Entry::other_site) << site;
  }
  UiRequest own = known("/api/updates");
  own.fetch_site = "same-origin";
  EXPECT_EQ(access_.enter(own), Entry::session);
  for (const char* origin : {"http://evil.example", "null", "http://127.0.0.1:8080",
                             "https://127.0.0.1:9470", "http://localhost:9470"}) {
    UiRequest request = known("/api/updates");
    request.origin = origin;
    EXPECT_EQ(access_.enter(request), Entry::other_site) << origin;
    request = first();
    request.origin = origin;
    EXPECT_EQ(access_.enter(request), Entry::other_site) << origin;
  }
}

TEST_F(UiTest, OnlyGetWithoutABody) {
  UiRequest request = known("/");
  request.method = "POST";
  EXPECT_EQ(routes_.answer(request).status, 405U);
  request = known("/");
  request.has_body = true;
  EXPECT_EQ(routes_.answer(request).status, 405U);
}

TEST_F(UiTest, ThePageComesWithTheSessionAndStrictHeaders) {
  const UiAnswer answer = routes_.answer(first());
  EXPECT_EQ(answer.status, 200U);
  std::map<std::string, std::string> headers(answer.headers.begin(), answer.headers.end());
  EXPECT_THAT(headers["Content-Security-Policy"], HasSubstr("frame-ancestors 'none'"));
  EXPECT_EQ(headers["Cache-Control"], "no-store");
  EXPECT_FALSE(headers.contains("Set-Cookie")) << "every port of the host would get it";
  EXPECT_THAT(answer.body, HasSubstr("\"secret\":\"" + access_.session() + '"'));
  EXPECT_THAT(answer.body, HasSubstr("\"instance\":\"" + access_.instance() + '"'));
  EXPECT_THAT(answer.body, Not(HasSubstr(token())));
}

TEST_F(UiTest, AnswersToTheSessionSayWhoAnswers) {
  const std::string instance = "\"instance\":\"" + access_.instance() + '"';
  UiRequest updates = known("/api/updates");
  updates.query["since"] = "0";
  live_.add_denial({{"verdict", "deny"}});
  EXPECT_THAT(routes_.answer(updates).body, HasSubstr(instance));
  EXPECT_THAT(routes_.answer(known("/api/updates")).body, HasSubstr(instance)) << "errors too";
  EXPECT_THAT(routes_.answer(known("/api/denial")).body, HasSubstr(instance));
  for (int i = 0; i < 100; ++i) {
    EXPECT_THAT(routes_.answer(known("/api/denial")).body, HasSubstr(instance)) << "429";
  }
}

TEST_F(UiTest, Routes) {
  EXPECT_EQ(routes_.answer(known("/nothing")).status, 404U);
  EXPECT_EQ(routes_.answer(known("/api/updates")).status, 400U);
  UiRequest number = known("/api/updates");
  number.query["since"] = "1x";
  EXPECT_EQ(routes_.answer(number).status, 400U);
  UiRequest unknown = known("/api/denial");
  unknown.query["id"] = "99";
  EXPECT_EQ(routes_.answer(unknown).status, 404U);
  live_.add_denial({{"verdict", "deny"}, {"reason", "<b>"}});
  unknown.query["id"] = "1";
  const UiAnswer answer = routes_.answer(unknown);
  EXPECT_EQ(answer.status, 200U);
  EXPECT_THAT(answer.body, HasSubstr("\\u003cb>"));
}

TEST_F(UiTest, RequestsAreLimited) {
  unsigned refused = 0;
  for (int i = 0; i < 200; ++i) {
    refused += routes_.answer(known("/nothing")).status == 429 ? 1U : 0U;
  }
  EXPECT_GT(refused, 50U);
}

/// Any site in the operator's browser can send requests.
TEST_F(UiTest, RefusedRequestsDoNotLockTheOperatorOut) {
  UiRequest foreign = get("/");
  foreign.host = "evil.example";
  UiRequest guess = get("/");
  guess.query["token"] = "0";
  unsigned refused = 0;
  for (int i = 0; i < 200; ++i) {
    refused += routes_.answer(i % 2 == 0 ? foreign : guess).status == 429 ? 1U : 0U;
  }
  EXPECT_GT(refused, 50U) << "they are limited too";
  EXPECT_EQ(routes_.answer(first()).status, 200U);
  EXPECT_EQ(routes_.answer(known("/api/denial")).status, 404U);
}

TEST_F(UiTest, AWaitEndsWithADenial) {
  const json before = live_.changes(0, 0ms).news;
  std::thread later([this] { live_.add_denial({{"verdict", "deny"}, {"reason", "late"}}); });
  const UiUpdate after = live_.changes(before["change"].get<std::uint64_t>(), 60s);
  later.join();
  EXPECT_EQ(after.news.at("denials").at(0).at("reason"), "late");
  EXPECT_EQ(after.news.at("denial_ids").size(), 1U);
  EXPECT_EQ(after.map, nullptr) << "it has not changed";
}

TEST_F(UiTest, AWaitEndsWithAStop) {
  std::thread later([this] { live_.stop(); });
  const json after = live_.changes(99, 60s).news;
  later.join();
  EXPECT_FALSE(after.contains("denials"));
  EXPECT_TRUE(after.value("ended", false));
  EXPECT_FALSE(live_.wait_for_reader());
}

/// Denials that come all the time: every request is answered at once, and none is seen waiting.
TEST_F(UiTest, AReaderThatWasAnsweredAtOnceIsAReader) {
  EXPECT_FALSE(live_.is_watched());
  live_.add_denial({{"verdict", "deny"}});
  EXPECT_TRUE(live_.changes(0, 60s).news.contains("denials"));
  EXPECT_TRUE(live_.is_watched());
  EXPECT_TRUE(live_.wait_for_reader()) << "waits for ever otherwise";
}

TEST(MapPace, RestsAsLongAsMapsAreExpensive) {
  MapPace pace;
  EXPECT_EQ(pace.after(1ms), 1s);
  EXPECT_EQ(pace.after(200ms), 1s) << "one that was slow can have another cause than its cost";
  EXPECT_EQ(pace.after(200ms), 4s);
  EXPECT_EQ(pace.after(30s), 4s);
  EXPECT_EQ(pace.after(30s), 60s);
}

TEST(MapPace, AFailedCallCostsNothing) {
  MapPace pace;
  EXPECT_EQ(pace.after(std::nullopt), 1s);
  EXPECT_EQ(pace.after(100ms), 2s);
  EXPECT_EQ(pace.after(std::nullopt), 1s);
}

TEST_F(UiTest, TheSameMapAtAnotherTimeIsNoChange) {
  live_.set_map({{"nodes", json::array()}}, "1");
  const auto change = live_.changes(0, 0ms).news["change"].get<std::uint64_t>();
  live_.set_map({{"nodes", json::array()}}, "2");
  const UiUpdate same = live_.changes(change, 0ms);
  EXPECT_EQ(same.news.at("change"), change);
  EXPECT_EQ(same.map, nullptr);
  EXPECT_EQ(same.news.at("map_time"), "2") << "the age of the map is known all the same";
  live_.set_map({{"nodes", json::array({1})}}, "3");
  EXPECT_NE(live_.changes(change, 0ms).map, nullptr);
}

TEST_F(UiTest, AnAnswerIsOneObjectWithTheMap) {
  live_.set_map({{"nodes", json::array({"</script>"})}}, "1");
  UiRequest updates = known("/api/updates");
  updates.query["since"] = "0";
  const UiAnswer answer = routes_.answer(updates);
  EXPECT_THAT(answer.body, Not(HasSubstr("<")));
  const json parsed = json::parse(answer.body);
  EXPECT_EQ(parsed.at("map").at("nodes").at(0), "</script>");
  EXPECT_EQ(parsed.at("instance"), access_.instance());
}

/// After a lost connection, also where the clock was set back in the meantime.
TEST(KnownFlows, AFlowIsKnownByAllOfIt) {
  KnownFlows known(2);
  const json first = {{"time", "2026-01-31T12:00:00Z"}, {"port", 80}};
  const json earlier = {{"time", "2026-01-31T11:00:00Z"}, {"port", 80}};
  EXPECT_TRUE(known.add(first));
  EXPECT_TRUE(known.add(earlier));
  EXPECT_FALSE(known.add(first));
  EXPECT_FALSE(known.add(earlier));
  EXPECT_TRUE(known.add({{"port", 81}}));
  EXPECT_TRUE(known.add(first)) << "the oldest is forgotten";
}

TEST_F(UiTest, AProblemIsShownUntilItIsOver) {
  live_.set_problem("map", "triremed does not answer");
  live_.set_problem("denials", "");
  EXPECT_EQ(live_.changes(0, 0ms).news["problem"], "triremed does not answer");
  live_.set_problem("map", "");
  EXPECT_EQ(live_.changes(0, 0ms).news["problem"], "");
}

}  // namespace
}  // namespace trireme::cli
