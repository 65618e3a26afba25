// SPDX-License-Identifier: Apache-2.0
#include "loaded.hpp"

#include <fmt/format.h>
#include <netinet/in.h>

#include <map>
#include <set>

#include "diagnostics.hpp"
#include "trireme/base/counted.hpp"
#include "trireme/control/flow.hpp"
#include "trireme/control/methods.hpp"
#include "trireme/policy/expiry.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

constexpr std::size_t kMostTallies = 100'000;  // no limit: more than the daemon keeps

}  // namespace

Result<config::Configuration> loaded_configuration(const Globals& globals) {
  const auto answer = ask(globals, control::method::policy, json::object());
  if (!answer) {
    return tl::unexpected(answer.error());
  }
  const auto sources_of = [&answer](const char* key) {
    std::vector<config::Source> sources;
    for (const json& source : answer->value(key, json::array())) {
      sources.push_back(
          {source.at("file").get<std::string>(), source.at("content").get<std::string>()});
    }
    return sources;
  };
  auto configuration = config::parse(sources_of("sources"), sources_of("identity_sources"));
  for (const auto& diagnostic : configuration.diagnostics) {
    if (is_error(diagnostic)) {
      return fail("cannot parse the configuration in force: " + diagnostic.text(),
                  "trirectl and triremed may have different versions");
    }
  }
  return configuration;
}

Result<policy::Policy> loaded_policy(const Globals& globals) {
  auto configuration = loaded_configuration(globals);
  if (!configuration) {
    return tl::unexpected(configuration.error());
  }
  return policy::in_force(std::move(configuration->policy), policy::now());
}

Result<std::vector<policy::Party>> present_parties(const Globals& globals) {
  const auto workloads = ask(globals, control::method::workloads, {{"examine", false}});
  if (!workloads) {
    return tl::unexpected(workloads.error());
  }
  std::map<policy::LabelSet, std::vector<std::string>> names;
  std::map<policy::LabelSet, std::set<policy::PublishedPort>> published;
  for (const json& workload : *workloads) {
    if (workload.value("state", "") == "unenforced") {
      continue;  // no policy applies to it
    }
    const auto labels = control::labels_of(workload);
    if (!labels) {
      return tl::unexpected(labels.error());
    }
    names[*labels].push_back(workload.value("name", "?"));
    for (const json& port : workload.value("published", json::array())) {
      published[*labels].insert({.protocol = port.value("protocol", "") == "udp"
                                                 ? std::uint8_t{IPPROTO_UDP}
                                                 : std::uint8_t{IPPROTO_TCP},
                                 .port = port.value("port", std::uint16_t{0}),
                                 .host_port = port.value("host_port", std::uint16_t{0})});
    }
  }
  std::vector<policy::Party> parties;
  for (auto& [labels, members] : names) {
    parties.push_back(policy::party_of(labels));
    parties.back().members = std::move(members);
    parties.back().published = std::move(published[labels]);
  }
  return parties;
}

Result<RecentFlows> recent_flows(const Globals& globals, json params) {
  RecentFlows recent;
  params["summary"] = true;
  params["limit"] = kMostTallies;
  const auto answer =
      ask(globals, control::method::flows, params, std::chrono::seconds(30), [&](const json& flow) {
        if (auto seen = control::seen_flow(flow)) {
          recent.flows.push_back(std::move(*seen));
        }
        return true;
      });
  if (!answer) {
    return tl::unexpected(answer.error());
  }
  recent.forgotten = answer->value("forgotten", std::uint64_t{0});
  return recent;
}

std::string forgotten_text(std::uint64_t kinds) {
  if (kinds == 0) {
    return "";
  }
  return fmt::format(
      "since its start the daemon had no room for {} of flow; they can be missing here",
      counted(kinds, "kind"));
}

std::string unread_text(std::uint64_t unread_networks) {
  return "not all open connections are known: reading the sockets of " +
         counted(unread_networks, "network namespace") + " takes too long";
}

Result<LiveFlows> live_flows(const Globals& globals, Live live) {
  const auto answer =
      ask(globals, control::method::connections, {{"processes", live == Live::processes}});
  if (!answer) {
    return tl::unexpected(answer.error());
  }
  LiveFlows found;
  found.unknown = answer->value("unknown", std::uint64_t{0});
  found.unread_networks = answer->value("unread_networks", std::uint64_t{0});
  found.complete = answer->value("complete", true);
  for (const json& flow : answer->value("connections", json::array())) {
    if (auto seen = control::seen_flow(flow)) {
      found.flows.push_back(std::move(*seen));
    }
  }
  return found;
}

}  // namespace trireme::cli
