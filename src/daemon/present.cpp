// SPDX-License-Identifier: Apache-2.0
#include "present.hpp"

#include "trireme/control/flow.hpp"
#include "trireme/systemd/unit_rule.hpp"

namespace trireme::daemon {
namespace {

using nlohmann::json;

json known_json(const workload::Workload& workload) {
  json object = {{"name", workload.name},
                 {"kind", workload::text(workload.kind)},
                 {"cgroup", workload.cgroup_path},
                 {"container", workload.container_id},
                 {"state", workload::text(workload.state)},
                 {"reason", workload.reason},
                 {"own_labels", workload.own_labels.items()}};
  control::put_labels(object, workload.labels);
  return object;
}

json container_json(const docker::KnownContainer& container) {
  const auto labels_json = [](const std::optional<config::RawLabels>& labels) {
    return labels ? json(*labels) : json();
  };
  return {{"id", container.id},
          {"name", container.name},
          {"cgroup", container.cgroup},
          {"network", !container.is_placed ? json() : json(container.network ? "own" : "host")},
          {"labels", labels_json(container.labels)},
          {"image_labels", labels_json(container.image_labels)}};
}

/// Adds the cgroups of systemd's units at or below `path`.
void add_units(const kernel::CgroupTree& tree, const std::string& path, json& units) {
  for (const std::string& name : tree.children(path.empty() ? "/" : path)) {
    const std::string child = path + "/" + name;
    const std::string unit = systemd::cgroup_of_unit(child);
    if (unit == child) {
      units.push_back(child);
    } else if (unit.empty()) {
      add_units(tree, child, units);
    }
  }
}

}  // namespace

json present_json(Daemon& daemon) {
  json workloads = json::array();
  for (const workload::Workload* workload : daemon.registry().all()) {
    workloads.push_back(known_json(*workload));
  }
  json containers = json::array();
  for (const docker::KnownContainer& container : daemon.docker().known()) {
    containers.push_back(container_json(container));
  }
  json units = json::array();
  add_units(daemon.tree(), "", units);
  return {{"workloads", std::move(workloads)},
          {"containers", std::move(containers)},
          {"units", std::move(units)},
          {"units_off", daemon.units().off()},
          {"strict_slice", daemon.strict_slice()}};
}

}  // namespace trireme::daemon
