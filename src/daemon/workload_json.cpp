// SPDX-License-Identifier: Apache-2.0
#include "workload_json.hpp"

#include <netinet/in.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "trireme/control/flow.hpp"
#include "trireme/workload/capabilities.hpp"

namespace trireme::daemon {
namespace {

using nlohmann::json;

/// The warnings of a workload, without those about capabilities that [host] acknowledges.
struct Warnings {
  std::vector<std::string> open;
  std::vector<std::string> acknowledged;
  std::set<std::string> capabilities;  // that `open` is about
};

Warnings warnings_of(const workload::Workload& workload, const config::Host& host) {
  Warnings warnings;
  for (const std::string& warning : workload.warnings) {
    const std::string_view capability = workload::capability_of(warning);
    if (host.acknowledge.contains(capability)) {
      warnings.acknowledged.push_back(warning);
      continue;
    }
    warnings.open.push_back(warning);
    if (!capability.empty()) {
      warnings.capabilities.emplace(capability);
    }
  }
  return warnings;
}

}  // namespace

json workload_json(const workload::Workload& workload, const workload::Registry& registry,
                   const config::Host& host) {
  const Warnings warnings = warnings_of(workload, host);
  const char* network = workload::network_text(workload);
  json object = {{"name", workload.name},
                 {"kind", workload::text(workload.kind)},
                 {"identity", workload.number},
                 {"state", workload::text(workload.state)},
                 {"reason", workload.reason},
                 {"cgroup", workload.cgroup_path},
                 {"container", workload.container_id},
                 {"network", network == nullptr ? json() : json(network)},
                 {"warnings", warnings.open},
                 {"capabilities", warnings.capabilities},
                 {"acknowledged", warnings.acknowledged}};
  control::put_labels(object, workload.labels);
  for (const policy::PublishedPort& port : workload.published) {
    object["published"].push_back({{"protocol", port.protocol == IPPROTO_TCP ? "tcp" : "udp"},
                                   {"port", port.port},
                                   {"host_port", port.host_port}});
  }
  if (const workload::Hold* hold = registry.hold_on(workload)) {
    object["hold"] = {{"by", hold->by}, {"reason", hold->why}, {"since", hold->since}};
  }
  return object;
}

std::string quarantine_text(const workload::Workload& workload,
                            const workload::Registry& registry) {
  const workload::Hold* hold = registry.hold_on(workload);
  return hold == nullptr || workload.reason.ends_with(hold->text())
             ? workload.reason
             : hold->text() + "; " + workload.reason;
}

json holds_json(const workload::Registry& registry) {
  const std::vector<bool> live = registry.live_holds();
  json list = json::array();
  for (std::size_t i = 0; i < live.size(); ++i) {
    const workload::Hold& hold = registry.holds()[i];
    const bool is_live = live[i];
    list.push_back({{"name", hold.name},
                    {"kind", workload::text(hold.kind)},
                    {"by", hold.by},
                    {"reason", hold.why},
                    {"since", hold.since},
                    {"live", is_live}});
  }
  return list;
}

json capabilities_json(const workload::Registry& registry, const config::Host& host) {
  std::uint64_t count = 0;
  std::map<std::string, std::uint64_t> by_capability;
  for (const workload::Workload* workload : registry.all()) {
    const auto capabilities = warnings_of(*workload, host).capabilities;
    count += capabilities.empty() ? 0U : 1U;
    for (const std::string& capability : capabilities) {
      ++by_capability[capability];
    }
  }
  return {{"workloads", count}, {"by_capability", by_capability}};
}

}  // namespace trireme::daemon
