// SPDX-License-Identifier: Apache-2.0
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>

#include "trireme/control/flow.hpp"
#include "trireme/policy/explain.hpp"
#include "trireme/policy/ports.hpp"

namespace trireme::control {
namespace {

using nlohmann::json;

std::string time_text(std::chrono::system_clock::time_point time) {
  const auto micros =
      std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:06}Z",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(time)), micros % 1'000'000);
}

json end_json(const FlowEnd& end) {
  json result = json::object();
  if (end.address) {
    result["address"] = end.address->text();
  }
  if (end.labels) {
    put_labels(result, *end.labels);
    result["workload"] = end.workload;
    if (!end.host.empty()) {
      result["host"] = end.host;
    }
  } else if (end.quarantined || end.ended) {
    if (!end.workload.empty()) {
      result["workload"] = end.workload;
    }
  } else {
    result["entity"] = end.entity;
    if (!end.networks.empty()) {
      result["networks"] = end.networks;
    }
    if (!end.names.empty()) {
      result["names"] = end.names;
    }
    if (!end.cgroup.empty()) {
      result["cgroup"] = end.cgroup;
    }
  }
  if (end.quarantined) {
    result["quarantined"] = true;
  }
  if (end.ended) {
    result["ended"] = true;
  }
  return result;
}

json verdict_json(const std::optional<policy::Verdict>& verdict) {
  return verdict ? json(policy::text(*verdict)) : json();
}

std::optional<policy::SeenEnd> seen_end(const json& end) {
  policy::SeenEnd seen;
  if (end.value("quarantined", false) || end.value("ended", false)) {
    return std::nullopt;
  }
  if (const auto address = policy::Address::parse(end.value("address", ""))) {
    seen.address = *address;
  }
  if (end.contains("labels")) {
    auto labels = labels_of(end);
    if (!labels) {
      return std::nullopt;
    }
    seen.labels = std::move(*labels);
    seen.workload = end.value("workload", "");
    seen.has_token = end.value("token", false);
  } else {
    // No other host has a loopback address.
    seen.host = end.value("entity", "") == "@host" || (seen.address && seen.address->is_loopback());
    seen.cgroup = end.value("cgroup", "");
    for (const json& name : end.value("names", json::array())) {
      if (name.is_string()) {
        seen.names.push_back(name.get<std::string>());
      }
    }
  }
  return seen;
}

/// Whether a rule can change the verdict of the flow.
bool is_by_policy(const json& flow) {
  const std::string cause = flow.value("cause", "");
  if (cause.empty() || cause == "policy" || cause == "none" || cause == "no_proof") {
    return true;
  }
  // UDP to a host without trireme has no answer that lacks a proof: in audit mode it passes as to a
  // peer without labels, which policy would deny. Of TCP it says only that nobody answered.
  return cause == "no_answer" && flow.value("verdict", "") == "audit" &&
         flow.value("protocol", "") == "udp";
}

}  // namespace

void put_labels(json& object, const policy::LabelSet& labels) {
  object["labels"] = labels.items();
  if (!labels.host_keys().empty()) {
    object["host_labels"] = labels.host_keys();
  }
}

Result<policy::LabelSet> labels_of(const json& object) {
  const json items = object.value("labels", json::object());
  const json of_host = object.value("host_labels", json::array());
  if (!items.is_object() || !of_host.is_array()) {
    return fail("labels are not an object of strings");
  }
  policy::LabelSet labels;
  for (const auto& [key, value] : items.items()) {
    const bool is_of_host = std::ranges::find(of_host, json(key)) != of_host.end();
    const Status set = !value.is_string() ? Status(fail("the value of a label is not a string"))
                       : is_of_host       ? labels.set_of_host(key, value.get<std::string>())
                                          : labels.set(key, value.get<std::string>());
    if (!set) {
      return tl::unexpected(set.error());
    }
  }
  return labels;
}

json to_json(const Flow& flow) {
  const std::string service = policy::port_text(flow.protocol, flow.port);
  json result = {{"time", time_text(flow.time)},
                 {"verdict", policy::text(flow.verdict)},
                 {"verdicts",
                  {{"source", verdict_json(flow.at_source)},
                   {"destination", verdict_json(flow.at_destination)}}},
                 {"source", end_json(flow.source)},
                 {"destination", end_json(flow.destination)},
                 {"protocol", service.substr(0, service.find('/'))},
                 {"port", flow.port},
                 {"rule", flow.rule},
                 {"reason", flow.reason}};
  if (!flow.policy.empty()) {
    result["policy"] = flow.policy;
  }
  if (!flow.cause.empty()) {
    result["cause"] = flow.cause;
  }
  if (flow.sampled) {
    result["sampled"] = true;
  }
  return result;
}

json to_json(const FlowTally& tally) {
  json result = to_json(tally.last);
  result["count"] = tally.count;
  result["first"] = time_text(tally.first);
  return result;
}

std::optional<policy::SeenFlow> seen_flow(const json& flow) {
  if (!is_by_policy(flow)) {
    return std::nullopt;
  }
  const auto from = seen_end(flow.value("source", json::object()));
  const auto to = seen_end(flow.value("destination", json::object()));
  const std::string protocol = flow.value("protocol", "");
  const auto port = flow.value("port", 0U);
  const bool has_port = protocol == "tcp" || protocol == "udp";
  const auto service =
      policy::parse_port(has_port ? fmt::format("{}/{}", protocol, port) : protocol);
  if (!from || !to || !service || port > 65535) {
    return std::nullopt;
  }
  policy::SeenFlow seen;
  seen.from = *from;
  seen.to = *to;
  seen.protocol = service->protocol;
  seen.port = service->first;
  seen.count = flow.value("count", std::uint64_t{1});
  seen.last = flow.value("time", "");
  seen.is_local = flow.value("local", false);
  seen.is_unproved = flow.value("unproved", false);
  seen.client_ports = flow.value("client_ports", std::vector<std::uint16_t>());
  const std::string verdict = flow.value("verdict", "");
  seen.verdict = verdict == "deny"    ? policy::Verdict::deny
                 : verdict == "audit" ? policy::Verdict::audit
                                      : policy::Verdict::allow;
  return seen;
}

}  // namespace trireme::control
