// SPDX-License-Identifier: Apache-2.0
#include "trireme/control/flow_pairs.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include "trireme/control/flow.hpp"

namespace trireme::control {
namespace {

constexpr std::size_t kOwners = 16;  // that share the capacity, at least

/// A workload of this host is known by its number at both reporters. They may see different
/// addresses of it, because of NAT between network namespaces.
std::string known_as(const FlowEnd& end) {
  if (end.number != 0) {
    return "n" + std::to_string(end.number);
  }
  const std::string address = end.address ? end.address->text() : "";
  if (end.labels) {
    return "l" + end.labels->encode() + '\0' + end.host + '\0' + address;
  }
  // Workloads in quarantine share a number, and in different network namespaces perhaps an address.
  return (end.quarantined ? "q"
          : end.ended     ? "e"
                          : end.entity) +
         '\0' + end.workload + '\0' + address;
}

std::string key_of(const Flow& flow) {
  std::string key = known_as(flow.source) + '\0' + known_as(flow.destination) + '\0';
  key += static_cast<char>(flow.verdict);
  key += static_cast<char>(flow.protocol);
  key += std::to_string(flow.port);
  if (flow.reporter == policy::Reporter::gate || flow.reporter == policy::Reporter::rules) {
    key += flow.cause;  // what only the gate can find is not what the rules have reported
  }
  return key;
}

/// Which two reporters can report the same flow: both sides of a handshake, or the rules and the
/// gate. What the rules deny and what a handshake denies are two flows, with two reasons.
char pair_of(policy::Reporter reporter) {
  const bool is_side = reporter == policy::Reporter::client || reporter == policy::Reporter::server;
  return is_side ? 's' : 'r';
}

std::string owner_of(const Flow& flow) {
  return flow.source.entity == "@world" ? flow.source.entity : flow_owner(flow);
}

}  // namespace

bool FlowPairs::is_repeated(const Flow& flow, Clock::time_point now) {
  while (!reports_.empty() && reports_.front().time + kWindow < now) {
    forget(reports_.begin());
  }
  std::string key = key_of(flow) + pair_of(flow.reporter);
  const std::uint32_t reporter = 1U << static_cast<unsigned>(flow.reporter);
  if (const auto found = by_key_.find(key); found != by_key_.end()) {
    Report& first = *found->second;
    if ((first.reporters & reporter) == 0) {
      first.reporters |= reporter;
      return true;
    }
    forget(found->second);
  }
  remember(std::move(key), flow, now);
  return false;
}

void FlowPairs::remember(std::string key, const Flow& flow, Clock::time_point now) {
  std::string owner = owner_of(flow);
  const auto held = of_owner_.find(owner);
  if (held != of_owner_.end() && held->second >= std::max<std::size_t>(capacity_ / kOwners, 1)) {
    return;
  }
  of_owner_[owner]++;
  reports_.push_back({.key = std::move(key),
                      .owner = std::move(owner),
                      .time = now,
                      .reporters = 1U << static_cast<unsigned>(flow.reporter)});
  by_key_[reports_.back().key] = std::prev(reports_.end());
  if (reports_.size() > capacity_) {
    forget(reports_.begin());
  }
}

void FlowPairs::forget(Reports::iterator report) {
  const auto owner = of_owner_.find(report->owner);
  if (--owner->second == 0) {
    of_owner_.erase(owner);
  }
  by_key_.erase(report->key);
  reports_.erase(report);
}

}  // namespace trireme::control
