// SPDX-License-Identifier: Apache-2.0
#include "flow_feed.hpp"
#include "time_text.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <span>

#include "log.hpp"
#include "trireme/base/log_shares.hpp"
#include "trireme/handshake/reason.hpp"

namespace trireme::daemon {
namespace {

using nlohmann::json;

constexpr std::size_t kLimit = 100;
constexpr std::size_t kDigestBytes = 8;  // of a policy's digest, in flows

/// The cause of a verdict as a metric label: one of a small set of words.
std::string why(const policy::Flow& flow) {
  if (!flow.cause.empty() && flow.cause != handshake::text(handshake::Reason::policy)) {
    return flow.cause;
  }
  if (flow.source.quarantined || flow.destination.quarantined) {
    return "quarantined";
  }
  return flow.rule.empty() ? "no_rule" : "rule";
}

/// Sampled flows are more, and matter less. They never displace others: their store is their own.
constexpr control::FlowStore::Limits kSampleLimits = {
    .recent = 4096, .tallies = 4096, .bytes = 4U << 20U};

/// Answers with these flows or tallies. Copies them first, because the store can change while the
/// caller reads.
template <typename Item>
void send_items(const std::vector<const Item*>& found, json result, const control::Reply& reply) {
  result["count"] = found.size();
  auto items = std::make_shared<std::vector<Item>>();
  items->reserve(found.size());
  std::ranges::for_each(found, [&](const Item* item) { items->push_back(*item); });
  reply.list_events(
      [items, next = std::size_t{0}]() mutable {
        return next < items->size() ? std::optional(control::to_json((*items)[next++]))
                                    : std::nullopt;
      },
      std::move(result));
}

}  // namespace

FlowFeed::FlowFeed() : samples_(kSampleLimits) {}

void FlowFeed::set_policy(const policy::Policy& policy) {
  policy_ = policy::hex(std::span(policy.digest).first<kDigestBytes>());
  hits_.use(policy, std::chrono::system_clock::now());
}

void FlowFeed::take(policy::Flow taken) {
  if (pairs_.is_repeated(taken, std::chrono::steady_clock::now())) {
    return;
  }
  taken.policy = policy_;
  hits_.count(taken);
  totals_.count(taken);
  if (taken.sampled) {
    sampled_++;
    send_to_followers(samples_.add(std::move(taken)));
    return;
  }
  const policy::Flow& flow = store_.add(std::move(taken));
  counts_[{policy::text(flow.verdict), why(flow)}]++;
  send_to_followers(flow);
  if (flow.verdict != policy::Verdict::audit || audits_.take(flow, AuditSummary::Clock::now())) {
    log(flow, 0);
  }
}

void FlowFeed::log_repeated(AuditSummary::Clock::time_point now) {
  for (const AuditSummary::Repeated& repeated : audits_.due(now)) {
    log(repeated.last, repeated.count);
  }
}

/// 'trirectl flows' also shows the flows that are left out of the log here.
void FlowFeed::log(const policy::Flow& flow, std::uint64_t repeated) {
  if (log_shares().admit(control::flow_owner(flow))) {
    log_flow(flow, repeated);
  } else {
    suppressed_++;
  }
}

void FlowFeed::send_to_followers(const policy::Flow& flow) {
  std::erase_if(followers_, [](const Follower& follower) { return !follower.reply.open(); });
  json line;  // built at most once, when the first follower needs it
  for (const Follower& follower : followers_) {
    if ((follower.all || !flow.sampled) && follower.filter.matches(flow)) {
      if (line.is_null()) {
        line = control::to_json(flow);
      }
      follower.reply.event(line);
    }
  }
}

void FlowFeed::answer(const json& params, const policy::Policy& policy,
                      const control::Reply& reply) {
  auto filter = control::FlowFilter::parse(params, policy);
  if (!filter) {
    reply.error(filter.error());
    return;
  }
  const auto limit = params.value("limit", kLimit);
  const bool all = params.value("all", false);
  json result = {{"left_out", 0}, {"since", time_text(std::max(started_, filter->since()))}};
  if (params.value("summary", false)) {
    std::size_t left_out = 0;
    auto found = store_.tallies(*filter, limit, &left_out);
    if (all) {
      std::size_t more = 0;
      std::ranges::copy(samples_.tallies(*filter, limit, &more), std::back_inserter(found));
      std::ranges::stable_sort(found, std::ranges::greater(), &control::FlowTally::count);
      left_out += more + found.size() - std::min(found.size(), limit);
      found.resize(std::min(found.size(), limit));
    }
    result["left_out"] = left_out;
    result["forgotten"] = store_.forgotten() + (all ? samples_.forgotten() : 0);
    send_items(found, std::move(result), reply);
    return;
  }
  auto found = store_.recent(*filter, limit);
  if (all) {
    std::ranges::copy(samples_.recent(*filter, limit), std::back_inserter(found));
    std::ranges::stable_sort(found, {}, &policy::Flow::time);
    const std::size_t over = found.size() - std::min(found.size(), limit);
    found.erase(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(over));
  }
  if (params.value("follow", false)) {
    std::ranges::for_each(found,
                          [&](const policy::Flow* flow) { reply.event(control::to_json(*flow)); });
    followers_.push_back({reply, std::move(*filter), all});
  } else {
    send_items(found, std::move(result), reply);
  }
}

}  // namespace trireme::daemon
