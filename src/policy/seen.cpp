// SPDX-License-Identifier: Apache-2.0
#include "trireme/policy/seen.hpp"

#include <map>
#include <utility>

namespace trireme::policy {

namespace {

SeenEnd seen_end(const FlowEnd& end) {
  return {.labels = end.labels,
          .workload = end.workload,
          .host = end.entity == "@host",
          .address = end.address,
          .names = end.names,
          .cgroup = end.cgroup};
}

/// A workload as an enforcement point takes it to which it has proved no labels.
Endpoint as_world(const SeenEnd& end, std::span<const std::size_t> named) {
  return {.kind = Endpoint::Kind::world,
          .labels = nullptr,
          .workload = 0,
          .address = end.address,
          .named = named};
}

}  // namespace

SeenFlow seen(const Flow& flow, std::uint64_t count, std::vector<std::uint16_t> client_ports) {
  return {.from = seen_end(flow.source),
          .to = seen_end(flow.destination),
          .protocol = flow.protocol,
          .port = flow.port,
          .count = count,
          .verdict = flow.verdict,
          .last = {},
          .client_ports = std::move(client_ports)};
}

Endpoint SeenEnd::endpoint(std::span<const std::size_t> named) const {
  if (labels) {
    return {.kind = Endpoint::Kind::workload, .labels = &*labels, .workload = 0, .address = {}};
  }
  return {.kind = host ? Endpoint::Kind::host : Endpoint::Kind::world,
          .labels = nullptr,
          .workload = 0,
          .address = address,
          .named = named};
}

std::vector<std::size_t> SeenEnd::networks(const NameIndex& index) const {
  std::vector<std::size_t> result;
  for (const std::string& name : names) {
    const auto more = index.match(name);
    result.insert(result.end(), more.begin(), more.end());
  }
  return result;
}

Decision judge(const Policy& policy, const NameIndex& names, const SeenFlow& flow) {
  const auto from = flow.from.networks(names);
  const auto to = flow.to.networks(names);
  const Endpoint source = flow.from.endpoint(from);
  const Endpoint destination = flow.to.endpoint(to);
  if (!flow.is_unproved || !flow.from.labels || !flow.to.labels) {
    return evaluate(policy, source, destination, flow.protocol, flow.port);
  }
  const Decision at_source =
      evaluate(policy, source, as_world(flow.to, to), flow.protocol, flow.port);
  const Decision at_destination =
      evaluate(policy, as_world(flow.from, from), destination, flow.protocol, flow.port);
  return at_source.verdict == Verdict::deny || at_destination.verdict == Verdict::allow
             ? at_source
             : at_destination;
}

std::uint64_t count_denied(const Policy& policy, const NameIndex& names, const SeenFlow& flow) {
  if (judge(policy, names, flow).verdict != Verdict::deny) {
    return 0;
  }
  const bool has_proof = flow.from.labels && flow.to.labels && !flow.is_local && !flow.is_unproved;
  if (flow.client_ports.empty() || has_proof) {
    return flow.count;
  }
  SeenFlow back = flow;
  std::swap(back.from, back.to);
  std::map<std::uint16_t, bool> known;  // by port: whether the opposite direction is denied
  std::uint64_t denied = 0;
  for (const std::uint16_t port : flow.client_ports) {
    const auto [found, is_new] = known.try_emplace(port, true);
    if (is_new) {
      back.port = port;
      found->second = judge(policy, names, back).verdict == Verdict::deny;
    }
    denied += found->second ? 1U : 0U;
  }
  return denied;
}

std::string SeenEnd::text() const {
  if (labels) {
    return !labels->empty() ? labels->text() : workload.empty() ? "(no labels)" : workload;
  }
  return host ? "@host" : address ? address->text() : "@world";
}

}  // namespace trireme::policy
