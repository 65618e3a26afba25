// SPDX-License-Identifier: Apache-2.0
#include "workload_json.hpp"

#include <algorithm>

#include "trireme/control/flow.hpp"

namespace trireme::daemon {

using nlohmann::json;

json workload_json(const workload::Registry& registry, const workload::Workload& workload) {
  const char* network = workload::network_text(workload);
  json object = {{"name", workload.name},
                 {"kind", workload::text(workload.kind)},
                 {"identity", workload.number},
                 {"state", workload::text(workload.state)},
                 {"reason", workload.reason},
                 {"cgroup", workload.cgroup_path},
                 {"container", workload.container_id},
                 {"network", network == nullptr ? json() : json(network)},
                 {"warnings", workload.warnings}};
  if (const workload::Hold* hold = registry.hold_on(workload)) {
    object["hold"] = {{"by", hold->by}, {"reason", hold->why}, {"since", hold->since}};
  }
  control::put_labels(object, workload.labels);
  return object;
}

json holds_json(const workload::Registry& registry) {
  const auto workloads = registry.all();
  json list = json::array();
  for (const workload::Hold& hold : registry.holds()) {
    const bool is_live = std::ranges::any_of(
        workloads, [&](const workload::Workload* each) { return hold.covers(*each); });
    list.push_back({{"name", hold.name},
                    {"kind", workload::text(hold.kind)},
                    {"by", hold.by},
                    {"reason", hold.why},
                    {"since", hold.since},
                    {"live", is_live}});
  }
  return list;
}

}  // namespace trireme::daemon
