#include "flow_feed.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "log.hpp"
#include "trireme/handshake/reason.hpp"
#include "trireme/policy/explain.hpp"

namespace trireme::daemon {
namespace {

using nlohmann::json;

constexpr std::size_t kRecent = 1000;  // flows kept
constexpr double kBurst = 200;         // journal lines at once
constexpr auto kTellSuppressed = std::chrono::seconds(5);
constexpr double kPerSecond = 20;  // journal lines in the long run

std::string time_text(std::chrono::system_clock::time_point time) {
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:06}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(time)), micros % 1'000'000);
}

json end_json(const enforcer::FlowEnd& end) {
  json result = {{"address", end.address.text()}};
  if (end.labels) {
    result["labels"] = end.labels->items();
    result["workload"] = end.workload;
    if (!end.host.empty()) {
      result["host"] = end.host;
    }
  } else if (end.quarantined) {
    result["quarantined"] = true;
  } else {
    result["entity"] = end.entity;
    if (!end.networks.empty()) {
      result["networks"] = end.networks;
    }
    if (!end.names.empty()) {
      result["names"] = end.names;
    }
  }
  return result;
}

json flow_json(const enforcer::FlowRecord& record) {
  const std::string service = policy::port_text(record.protocol, record.port);
  json flow = {{"time", time_text(record.time)},
               {"verdict", policy::text(record.verdict)},
               {"source", end_json(record.source)},
               {"destination", end_json(record.destination)},
               {"protocol", service.substr(0, service.find('/'))},
               {"port", record.port},
               {"rule", record.rule},
               {"reason", record.reason}};
  if (!record.cause.empty()) {
    flow["cause"] = record.cause;
  }
  return flow;
}

/// For counters: a word of few.
std::string why(const enforcer::FlowRecord& record) {
  if (!record.cause.empty() && record.cause != handshake::text(handshake::Reason::policy)) {
    return record.cause;
  }
  if (record.source.quarantined || record.destination.quarantined) {
    return "quarantined";
  }
  return record.rule.empty() ? "no_rule" : "rule";
}

}  // namespace

void FlowFeed::take(const enforcer::FlowRecord& record) {
  counts_[{policy::text(record.verdict), why(record)}]++;
  recent_.push_back(flow_json(record));
  if (recent_.size() > kRecent) {
    recent_.pop_front();
  }
  std::erase_if(followers_, [](const control::Reply& follower) { return !follower.open(); });
  for (const control::Reply& follower : followers_) {
    follower.event(recent_.back());
  }
  if (!may_log()) {
    suppressed_++;
    return;
  }
  if (suppressed_ != told_suppressed_ && refilled_ >= suppressions_told_ + kTellSuppressed) {
    spdlog::warn("{} flows were not written here, to keep the journal readable; 'trirectl flows' has them", suppressed_ - told_suppressed_);
    told_suppressed_ = suppressed_;
    suppressions_told_ = refilled_;
  }
  log_flow(record);
}

bool FlowFeed::may_log() {
  const auto now = std::chrono::steady_clock::now();
  allowance_ = std::min(kBurst, allowance_ + kPerSecond * std::chrono::duration<double>(now - refilled_).count());
  refilled_ = now;
  if (allowance_ < 1) {
    return false;
  }
  allowance_ -= 1;
  return true;
}

void FlowFeed::answer(std::size_t limit, bool follow, const control::Reply& reply) {
  const std::size_t count = std::min(limit, recent_.size());
  std::for_each(recent_.end() - static_cast<std::ptrdiff_t>(count), recent_.end(), [&](const json& flow) { reply.event(flow); });
  if (follow) {
    followers_.push_back(reply);
  } else {
    reply.result({{"count", count}});
  }
}

}  // namespace trireme::daemon
