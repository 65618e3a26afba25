// SPDX-License-Identifier: Apache-2.0
// Texts of the daemon: the format of the metrics page, problems, and flows in the log and for
// callers.
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <algorithm>

#include <sstream>

#include "../../src/control/connection.hpp"
#include "../../src/daemon/audit_summary.hpp"
#include "../../src/daemon/exposition.hpp"
#include "../../src/daemon/flow_feed.hpp"
#include "../../src/daemon/log.hpp"
#include "../../src/daemon/problems.hpp"
#include "../../src/daemon/tokens.hpp"

namespace trireme::daemon {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

TEST(Exposition, FamiliesHaveHelpTypeAndSamples) {
  Exposition page;
  page.counter("a_total", "How many.", 18446744073709551615U);
  page.gauge("b", "How much.", 0);
  page.counters("c_total", "By kind.");
  page.sample({{"kind", "x"}, {"why", "y"}}, std::uint64_t{1});
  page.sample({{"kind", "z"}}, 0.25);
  EXPECT_EQ(page.take(),
            "# HELP a_total How many.\n"
            "# TYPE a_total counter\n"
            "a_total 18446744073709551615\n"
            "# HELP b How much.\n"
            "# TYPE b gauge\n"
            "b 0\n"
            "# HELP c_total By kind.\n"
            "# TYPE c_total counter\n"
            "c_total{kind=\"x\",why=\"y\"} 1\n"
            "c_total{kind=\"z\"} 0.25\n");
}

TEST(Exposition, LabelValuesAreEscaped) {
  Exposition page;
  page.gauges("a", "Help.");
  page.sample({{"text", "say \"x\\y\"\nand {z}"}}, std::uint64_t{1});
  EXPECT_THAT(page.take(), HasSubstr(R"(a{text="say \"x\\y\"\nand {z}"} 1)"
                                     "\n"));
}

/// Collects what spdlog writes during its lifetime.
class Log {
 public:
  Log() : before_(spdlog::default_logger()) {
    auto sink = std::make_shared<spdlog::sinks::ostream_sink_st>(text_);
    sink->set_pattern("%l: %v");
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("test", std::move(sink)));
  }
  ~Log() { spdlog::set_default_logger(before_); }
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  /// The lines since the last call.
  std::vector<std::string> lines() {
    std::vector<std::string> result;
    std::istringstream text(text_.str());
    for (std::string line; std::getline(text, line);) {
      result.push_back(line);
    }
    text_.str("");
    return result;
  }

 private:
  std::shared_ptr<spdlog::logger> before_;
  std::ostringstream text_;
};

TEST(Problems, StayUntilTheirTopicHasABetterOutcome) {
  Log log;
  Problems problems;
  problems.note("docker", fail("no socket", "start it"));
  problems.note("bus", fail("gone"));
  EXPECT_THAT(problems.lines(), ElementsAre("bus: gone", "docker: no socket; start it"));
  problems.note("docker", {});
  problems.note("never noted", {});
  EXPECT_THAT(problems.lines(), ElementsAre("bus: gone"));
}

TEST(Problems, AreLoggedWhenTheyAreNew) {
  Log log;
  Problems problems;
  problems.note("docker", fail("no socket"));
  problems.note("docker", fail("no socket"));
  EXPECT_THAT(log.lines(), ElementsAre("error: docker: no socket")) << "once";
  problems.note("docker", fail("another reason"));
  EXPECT_THAT(log.lines(), ElementsAre("error: docker: another reason"));
  problems.note("docker", {});
  problems.note("docker", fail("another reason"));
  EXPECT_THAT(log.lines(), ElementsAre("error: docker: another reason")) << "it came back";
}

policy::LabelSet labels(const char* key, const char* value) {
  policy::LabelSet set;
  EXPECT_TRUE(set.set(key, value));
  return set;
}

policy::Flow flow() {
  policy::Flow made;
  made.time = std::chrono::system_clock::now();
  made.source.labels = labels("app", "web");
  made.source.workload = "x.scope";
  made.source.number = 16;
  made.source.address = policy::Address::parse("10.0.0.1").value();
  made.destination.entity = "@world";
  made.destination.address = policy::Address::parse("192.0.2.7").value();
  made.protocol = IPPROTO_TCP;
  made.port = 80;
  made.reason = "no rule allows it";
  return made;
}

TEST(AuditSummary, TheFirstIsLoggedAtOnceAndTheRestCounted) {
  AuditSummary audits;
  const AuditSummary::Clock::time_point begin{std::chrono::hours(1)};
  policy::Flow seen = flow();
  EXPECT_TRUE(audits.take(seen, begin));
  EXPECT_FALSE(audits.take(seen, begin));
  seen.source.address = policy::Address::parse("10.0.0.2").value();
  EXPECT_FALSE(audits.take(seen, begin + std::chrono::minutes(4)))
      << "another process, equal labels";
  seen.port = 81;
  EXPECT_TRUE(audits.take(seen, begin + std::chrono::minutes(4))) << "another kind";
  EXPECT_THAT(audits.due(begin + std::chrono::minutes(4)), ::testing::IsEmpty());
  const auto repeated = audits.due(begin + AuditSummary::kWindow);
  ASSERT_EQ(repeated.size(), 1U);
  EXPECT_EQ(repeated.front().count, 2U);
  EXPECT_EQ(repeated.front().last.source.address->text(), "10.0.0.2") << "the newest";
}

TEST(AuditSummary, WhatGoesOnIsOneLineForEachWindow) {
  AuditSummary audits;
  AuditSummary::Clock::time_point now{std::chrono::hours(1)};
  EXPECT_TRUE(audits.take(flow(), now));
  for (int window = 0; window < 3; ++window) {
    EXPECT_FALSE(audits.take(flow(), now));
    now += AuditSummary::kWindow;
    EXPECT_EQ(audits.due(now).size(), 1U);
    EXPECT_THAT(audits.due(now), ::testing::IsEmpty()) << "once";
  }
  now += AuditSummary::kWindow;
  EXPECT_THAT(audits.due(now), ::testing::IsEmpty());
  EXPECT_TRUE(audits.take(flow(), now)) << "forgotten after a window without any";
}

TEST(AuditSummary, AtTheEndAllCountsAreDue) {
  AuditSummary audits;
  const auto now = AuditSummary::Clock::now();
  EXPECT_TRUE(audits.take(flow(), now));
  EXPECT_FALSE(audits.take(flow(), now));
  EXPECT_EQ(audits.due(AuditSummary::Clock::time_point::max()).size(), 1U);
}

TEST(AuditSummary, OneOwnerHasAShare) {
  AuditSummary audits;
  const AuditSummary::Clock::time_point begin{std::chrono::hours(1)};
  policy::Flow seen = flow();
  for (std::size_t i = 0; i < AuditSummary::kMostOfOwner; ++i) {
    seen.port = static_cast<std::uint16_t>(1000 + i);
    EXPECT_TRUE(audits.take(seen, begin));
    EXPECT_FALSE(audits.take(seen, begin));
  }
  seen.port = 2000;
  EXPECT_TRUE(audits.take(seen, begin));
  EXPECT_TRUE(audits.take(seen, begin)) << "no room: each is left to the rate limit";
  policy::Flow other = flow();
  other.source.workload = "y.scope";
  other.source.labels = labels("app", "other");
  EXPECT_TRUE(audits.take(other, begin));
  EXPECT_FALSE(audits.take(other, begin));
  EXPECT_EQ(audits.due(begin + AuditSummary::kWindow).size(), AuditSummary::kMostOfOwner + 1);
  EXPECT_THAT(audits.due(begin + 2 * AuditSummary::kWindow), ::testing::IsEmpty());
  EXPECT_TRUE(audits.take(seen, begin + 2 * AuditSummary::kWindow));
  EXPECT_FALSE(audits.take(seen, begin + 2 * AuditSummary::kWindow)) << "there is room again";
}

TEST(AuditSummary, TheFeedLogsRepetitionsAsOneLine) {
  Log log;
  FlowFeed feed;
  policy::Flow audited = flow();
  audited.verdict = policy::Verdict::audit;
  for (int i = 0; i < 5; ++i) {
    feed.take(audited);
  }
  feed.take(flow());
  feed.take(flow());
  EXPECT_EQ(log.lines().size(), 3U) << "denials are not counted together";
  feed.log_repeated(AuditSummary::Clock::now() + AuditSummary::kWindow);
  EXPECT_THAT(log.lines(),
              ElementsAre(::testing::EndsWith("no rule allows it; 4 times more within 5 minutes")));
  EXPECT_EQ(feed.counts().at({"audit", "no_rule"}), 5U) << "the counters have all";
}

TEST(Log, LevelsHaveNames) {
  const auto before = spdlog::default_logger();
  for (const char* level : {"trace", "debug", "info", "warn", "error"}) {
    EXPECT_TRUE(set_up_log(level, true)) << level;
    EXPECT_EQ(spdlog::default_logger()->level(), spdlog::level::from_str(level));
  }
  for (const char* level : {"", "loud", "INFO"}) {
    const Status refused = set_up_log(level, true);
    ASSERT_FALSE(refused) << level;
    EXPECT_THAT(refused.error().message, HasSubstr(std::string("'") + level + "'"));
  }
  spdlog::set_default_logger(before);
}

TEST(Log, AFlowIsOneLine) {
  Log log;
  log_flow(flow());
  EXPECT_THAT(log.lines(), ElementsAre("info: deny x.scope (app=web) [10.0.0.1] -> "
                                       "@world [192.0.2.7] tcp/80: no rule allows it"));
  policy::Flow other = flow();
  other.verdict = policy::Verdict::audit;
  other.source.quarantined = true;
  other.source.workload = "";
  other.source.labels.reset();
  other.destination.networks = {"dns", "corp"};
  other.destination.names = {"ns.example", "alias.example"};
  other.destination.host = "db-1";
  other.rule = "allow 'web to db'";
  log_flow(other);
  EXPECT_THAT(log.lines(),
              ElementsAre("info: audit a workload (quarantined) [10.0.0.1] -> @world, @dns, @corp "
                          "[192.0.2.7, ns.example, db-1] tcp/80: no rule allows it, allow 'web to "
                          "db'"));
}

TEST(Log, WorkloadsWithoutPolicyAreNamed) {
  Log log;
  policy::Flow made = flow();
  made.source = {};
  made.source.quarantined = true;
  made.source.workload = "db.service";
  made.destination = {};
  made.destination.ended = true;
  made.destination.workload = "old.scope";
  made.destination.labels = labels("app", "old");
  log_flow(made);
  made.source.workload.clear();
  made.destination = {};
  made.destination.ended = true;
  log_flow(made);
  EXPECT_THAT(log.lines(),
              ElementsAre("info: deny db.service (quarantined) [] -> old.scope (app=old, ended) [] "
                          "tcp/80: no rule allows it",
                          "info: deny a workload (quarantined) [] -> a workload (ended) [] tcp/80: "
                          "no rule allows it"));
}

TEST(FlowFeed, CountsByVerdictAndCause) {
  Log log;
  FlowFeed feed;
  feed.take(flow());
  feed.take(flow());
  policy::Flow by_rule = flow();
  by_rule.rule = "deny 'x'";
  feed.take(by_rule);
  policy::Flow quarantined = by_rule;
  quarantined.destination.quarantined = true;
  feed.take(quarantined);
  policy::Flow handshake = flow();
  handshake.cause = "revoked";
  feed.take(handshake);
  policy::Flow refused = flow();  // by policy, during a handshake
  refused.cause = "policy";
  refused.verdict = policy::Verdict::audit;
  feed.take(refused);
  const std::map<FlowFeed::Key, std::uint64_t> expected = {{{"deny", "no_rule"}, 2},
                                                           {{"deny", "rule"}, 1},
                                                           {{"deny", "quarantined"}, 1},
                                                           {{"deny", "revoked"}, 1},
                                                           {{"audit", "no_rule"}, 1}};
  EXPECT_EQ(feed.counts(), expected);
  EXPECT_EQ(log.lines().size(), 6U);
}

/// One flow is one line, one count and one entry, however many report it.
TEST(FlowFeed, AFlowThatBothSidesReportIsOne) {
  Log log;
  FlowFeed feed;
  policy::Policy policy;
  policy.digest[0] = 0xab;
  feed.set_policy(policy);
  policy::Flow reported = flow();
  for (const auto reporter : {policy::Reporter::server, policy::Reporter::client}) {
    reported.reporter = reporter;
    feed.take(reported);
  }
  EXPECT_EQ(feed.counts().at({"deny", "no_rule"}), 1U);
  EXPECT_EQ(log.lines().size(), 1U);
  const auto stored = feed.store().recent({}, 10);
  ASSERT_EQ(stored.size(), 1U);
  EXPECT_EQ(stored[0]->policy, "ab00000000000000");
  EXPECT_EQ(feed.store().tallies({}, 10).at(0)->count, 1U);
  feed.take(reported);
  EXPECT_EQ(feed.counts().at({"deny", "no_rule"}), 2U) << "the same side again: another flow";
}

TEST(Peers, ALineSaysHowManyFailedAndWhy) {
  handshake::PeerOutcomes peer{.address = policy::Address::parse("10.0.0.2").value(),
                               .allowed = 1,
                               .refused = 8,
                               .reason = handshake::Reason::denied_by_peer,
                               .detail = "denied by peer 10.0.0.2: policy there"};
  EXPECT_EQ(
      text(peer),
      "peer 10.0.0.2: 8 of 9 connections to it failed in the last minutes; the newest: denied "
      "by peer 10.0.0.2: policy there");
  peer.reason = handshake::Reason::untrusted;
  peer.detail.clear();
  EXPECT_THAT(text(peer),
              HasSubstr("; the newest: no CA or secret of this host's [trust] vouches"));
}

TEST(FlowFeed, KeepsAFloodOutOfTheJournal) {
  Log log;
  FlowFeed feed;
  for (int i = 0; i < 5000; ++i) {
    feed.take(flow());
  }
  const std::size_t lines = log.lines().size();
  EXPECT_GE(lines, 10U);
  EXPECT_LE(lines, 500U);
  EXPECT_EQ(lines + feed.suppressed(), 5000U) << "each is logged or counted";
  EXPECT_GT(feed.suppressed(), 0U);
  EXPECT_EQ(feed.counts().at({"deny", "no_rule"}), 5000U);
  policy::Flow other = flow();
  other.source.workload = "another.scope";
  feed.take(other);
  EXPECT_EQ(log.lines().size(), 1U) << "another workload has its own share";
}

/// A caller without a socket.
class Caller {
 public:
  Caller() : state_(std::make_shared<control::Reply::State>()) {}
  [[nodiscard]] control::Reply reply() const { return control::Reply(state_); }
  [[nodiscard]] bool is_answered() const { return state_->answered; }

 private:
  std::shared_ptr<control::Reply::State> state_;
};

TEST(FlowFeed, AnswersOrSaysWhatIsWrong) {
  Log log;
  FlowFeed feed;
  feed.take(flow());
  const policy::Policy policy;
  for (const json& params : {json::object(), json{{"summary", true}, {"limit", 1}},
                             json{{"verdict", "no such verdict"}}}) {
    const Caller caller;
    feed.answer(params, policy, caller.reply());
    EXPECT_TRUE(caller.is_answered()) << params;
  }
  const Caller follower;
  feed.answer(json{{"follow", true}}, policy, follower.reply());
  EXPECT_FALSE(follower.is_answered()) << "it waits for further flows";
  EXPECT_THROW(feed.answer(json{{"limit", "many"}}, policy, Caller().reply()), json::exception);
}

}  // namespace
}  // namespace trireme::daemon
