// SPDX-License-Identifier: Apache-2.0
#include "trireme/workload/candidates.hpp"

#include <set>
#include <tuple>

#include "trireme/workload/workload.hpp"

namespace trireme::workload {
namespace {

using policy::Resident;

/// `labels` without [host] labels, or why there are none.
Resident resident(const config::Host& host, std::string key, std::string name, Kind kind,
                  const Result<policy::LabelSet>& labels) {
  Resident made{.key = std::move(key), .name = std::move(name), .kind = text(kind), .labels = {}};
  if (!labels) {
    made.blocked = labels.error().message;
    return made;
  }
  made.labels = *labels;
  if (const Status added = made.labels.add_host_labels(host.labels); !added) {
    made.labels = *labels;
    made.blocked = added.error().message;
  }
  return made;
}

/// nullopt: the container is no workload.
std::optional<Resident> resident(const config::Host& host, const Candidates::Container& container) {
  static const config::RawLabels none;
  const config::DockerSettings& settings = host.docker;
  const bool is_elsewhere = container.has_own_network.value_or(true);
  const bool is_known = container.labels && (container.labels->empty() || container.image_labels);
  Result<policy::LabelSet> labels =
      is_known ? config::identity_labels(*container.labels, container.image_labels.value_or(none),
                                         settings)
               : Result<policy::LabelSet>(fail("its labels are not known"));
  policy::LabelSet counted;
  if (labels) {
    counted = *labels;
  } else {
    std::ignore = counted.set("unknown", "");  // not left alone for having none
  }
  if (!config::is_under_policy(settings, counted, is_elsewhere)) {
    return std::nullopt;
  }
  return resident(host, container.key(), container.name, Kind::container, labels);
}

}  // namespace

std::vector<Resident> residents(const config::Host& host, const Candidates& candidates,
                                const MatchUnit& match) {
  std::vector<Resident> found;
  std::set<std::string> taken;
  for (const Candidates::Process& process : candidates.processes) {
    taken.insert(process.cgroup);
    found.push_back(
        resident(host, process.cgroup, process.name, Kind::process, process.own_labels));
  }
  for (const Candidates::Container& container : candidates.containers) {
    if (auto made = resident(host, container)) {
      taken.insert(container.cgroup);
      found.push_back(std::move(*made));
    }
  }
  for (const std::string& cgroup : candidates.units) {
    const auto unit = taken.contains(cgroup) ? std::nullopt : match(cgroup);
    if (unit) {
      found.push_back(resident(host, cgroup, unit->first, Kind::unit, unit->second));
    }
  }
  return found;
}

}  // namespace trireme::workload
