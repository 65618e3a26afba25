#include "flow_feed.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>

#include "log.hpp"
#include "trireme/handshake/reason.hpp"

namespace trireme::daemon {
namespace {

using nlohmann::json;

constexpr double kBurst = 200;     // journal lines at once
constexpr double kPerSecond = 20;  // journal lines in the long run
constexpr auto kTellSuppressed = std::chrono::seconds(5);
constexpr std::size_t kLimit = 100;

control::FlowEnd end_of(const enforcer::FlowEnd& end) {
  return {.labels = end.labels,
          .workload = end.workload,
          .entity = end.entity,
          .host = end.host,
          .quarantined = end.quarantined,
          .address = end.address,
          .networks = end.networks,
          .names = end.names};
}

control::Flow flow_of(const enforcer::FlowRecord& record) {
  return {.time = record.time,
          .verdict = record.verdict,
          .source = end_of(record.source),
          .destination = end_of(record.destination),
          .protocol = record.protocol,
          .port = record.port,
          .rule = record.rule,
          .reason = record.reason,
          .cause = record.cause};
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

/// As they are now.
template <typename Item>
void tell(const std::vector<const Item*>& found, const control::Reply& reply) {
  auto items = std::make_shared<std::vector<Item>>();
  items->reserve(found.size());
  std::ranges::for_each(found, [&](const Item* item) { items->push_back(*item); });
  reply.list_events(
      [items, next = std::size_t{0}]() mutable { return next < items->size() ? std::optional(to_json((*items)[next++])) : std::nullopt; },
      {{"count", items->size()}});
}

}  // namespace

void FlowFeed::take(const enforcer::FlowRecord& record) {
  counts_[{policy::text(record.verdict), why(record)}]++;
  tell_followers(store_.add(flow_of(record)));
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

void FlowFeed::tell_followers(const control::Flow& flow) {
  std::erase_if(followers_, [](const Follower& follower) { return !follower.reply.open(); });
  json line;  // made once, and only where somebody wants it
  for (const Follower& follower : followers_) {
    if (follower.filter.matches(flow)) {
      if (line.is_null()) {
        line = to_json(flow);
      }
      follower.reply.event(line);
    }
  }
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

void FlowFeed::answer(const json& params, const policy::Policy& policy, const control::Reply& reply) {
  auto filter = control::FlowFilter::parse(params, policy);
  if (!filter) {
    reply.error(filter.error());
    return;
  }
  const auto limit = params.value("limit", kLimit);
  if (params.value("summary", false)) {
    tell(store_.tallies(*filter, limit), reply);
    return;
  }
  const auto found = store_.recent(*filter, limit);
  if (params.value("follow", false)) {
    std::ranges::for_each(found, [&](const control::Flow* flow) { reply.event(to_json(*flow)); });
    followers_.push_back({reply, std::move(*filter)});
  } else {
    tell(found, reply);
  }
}

}  // namespace trireme::daemon
