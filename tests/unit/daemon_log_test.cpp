// SPDX-License-Identifier: Apache-2.0
// What the daemon logs: labels and names of others must not control the journal or a terminal.
#include "../../src/daemon/log.hpp"

#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <sstream>

namespace trireme::daemon {
namespace {

/// Runs `what` with a default logger like the daemon's, and returns what it logs.
template <typename What>
std::string logged(What what) {
  std::ostringstream out;
  auto sink = std::make_shared<spdlog::sinks::ostream_sink_st>(out);
  auto logger = std::make_shared<spdlog::logger>("test", printable_sink(std::move(sink)));
  logger->set_pattern("%l: %v");
  const auto before = spdlog::default_logger();
  spdlog::set_default_logger(std::move(logger));
  what();
  spdlog::set_default_logger(before);
  return out.str();
}

TEST(Log, HasNoControlCharactersOfNames) {
  EXPECT_EQ(logged([] {
              spdlog::warn("workload {}: {}", "web\n2026 forged", "\x1B[2J\xE2\x80\xAE\xC2\x9B");
            }),
            "warning: workload web?2026 forged: ?[2J??\n");
  EXPECT_EQ(logged([] { spdlog::error("caf\xC3\xA9"); }), "error: caf\xC3\xA9\n");
}

TEST(Log, OfFlowsHasNoControlCharactersOfLabels) {
  policy::Flow flow;
  flow.verdict = policy::Verdict::deny;
  flow.reason = "no rule allows it";
  flow.protocol = 6;
  flow.port = 80;
  flow.source.labels.emplace();
  ASSERT_TRUE(flow.source.labels->set("app", "a\xE2\x80\xAE"));
  flow.source.workload = "web\x1B[2J";
  flow.destination.entity = "@host";
  const std::string line = logged([&flow] { log_flow(flow); });
  EXPECT_NE(line.find("web?[2J (app=a?)"), std::string::npos) << line;
  EXPECT_EQ(line.find_first_of("\x1B\xE2"), std::string::npos) << line;
}

}  // namespace
}  // namespace trireme::daemon
