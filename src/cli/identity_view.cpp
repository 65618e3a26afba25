// SPDX-License-Identifier: Apache-2.0
#include "identity_view.hpp"

#include <map>

#include "trireme/config/host_diff.hpp"
#include "trireme/control/flow.hpp"
#include "trireme/control/methods.hpp"
#include "trireme/systemd/unit_rule.hpp"
#include "trireme/workload/candidates.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;
using Containers = config::DockerSettings::Containers;

std::optional<config::RawLabels> raw_labels(const json& value) {
  return value.is_object() ? std::optional(value.get<config::RawLabels>()) : std::nullopt;
}

Result<workload::Candidates> candidates_of(const json& present) {
  workload::Candidates found;
  for (const json& each : present.at("workloads")) {
    if (each.at("kind") != "process") {
      continue;
    }
    auto own = control::labels_of({{"labels", each.at("own_labels")}});
    if (!own) {
      return tl::unexpected(own.error());
    }
    found.processes.push_back({each.at("name").get<std::string>(),
                               each.at("cgroup").get<std::string>(), std::move(*own)});
  }
  for (const json& each : present.at("containers")) {
    const json& network = each.at("network");
    found.containers.push_back(
        {.id = each.at("id").get<std::string>(),
         .name = each.at("name").get<std::string>(),
         .cgroup = each.at("cgroup").get<std::string>(),
         .has_own_network = network.is_string() ? std::optional(network == "own") : std::nullopt,
         .labels = raw_labels(each.at("labels")),
         .image_labels = raw_labels(each.at("image_labels"))});
  }
  if (present.at("units_off").get<std::string>().empty()) {
    found.units = present.at("units").get<std::vector<std::string>>();
  }
  return found;
}

/// By key: the names of workloads, which have a suffix where two would be equal.
std::map<std::string, std::string> known_names(const json& present) {
  std::map<std::string, std::string> names;
  for (const json& each : present.at("workloads")) {
    const auto cgroup = each.at("cgroup").get<std::string>();
    names[cgroup.empty() ? each.at("container").get<std::string>() : cgroup] =
        each.at("name").get<std::string>();
  }
  return names;
}

std::vector<policy::Resident> residents_of(const config::Host& host,
                                           const workload::Candidates& candidates,
                                           const systemd::UnitView& view, const json& present) {
  const auto strict = present.at("strict_slice").get<std::string>() + "/";
  const auto match =
      [&](const std::string& cgroup) -> std::optional<std::pair<std::string, policy::LabelSet>> {
    const auto unit = systemd::match_unit(host, view, cgroup);
    const bool is_launched = cgroup.ends_with(".scope") && cgroup.starts_with(strict);
    return unit && !is_launched ? std::optional(std::pair(unit->name, unit->rule->labels))
                                : std::nullopt;
  };
  const auto names = known_names(present);
  auto residents = workload::residents(host, candidates, match);
  for (policy::Resident& resident : residents) {
    if (const auto known = names.find(resident.key); known != names.end()) {
      resident.name = known->second;
    }
  }
  return residents;
}

/// What systemd reports about the units of both sides.
systemd::UnitView units_of_both(const config::Host& before, const config::Host& after) {
  auto both = std::make_shared<config::Host>(after);
  both->units.insert(both->units.end(), before.units.begin(), before.units.end());
  return systemd::view_units(both);
}

void add_notes(IdentityView& view, const config::Host& before, const config::Host& after,
               const std::string& units_off, const std::string& directory) {
  const std::string hint =
      "'triremed --check --config-dir " + directory + "' asks the engines themselves";
  if (before.docker.containers == Containers::none && after.docker.containers != Containers::none) {
    view.notes.push_back(
        "containers were not compared: with containers = \"none\" in force, the "
        "daemon does not know them; " +
        hint);
  } else if (before.docker.sockets != after.docker.sockets) {
    view.notes.push_back(
        "containers of engines that the daemon is not connected to were not compared; " + hint);
  }
  if (!units_off.empty() && (!before.units.empty() || !after.units.empty())) {
    view.notes.push_back("units were not compared, since none can be a workload: " + units_off);
  }
}

}  // namespace

Result<IdentityView> compare_identity(const Globals& globals, const config::Host& before,
                                      const config::Host& after, const std::string& directory) {
  const auto present = ask(globals, control::method::present, json::object());
  if (!present) {
    return tl::unexpected(present.error());
  }
  const auto candidates = candidates_of(*present);
  if (!candidates) {
    return tl::unexpected(candidates.error());
  }
  const auto units_off = present->at("units_off").get<std::string>();
  const systemd::UnitView units =
      units_off.empty() ? units_of_both(before, after) : systemd::UnitView();
  IdentityView view;
  view.diff = policy::IdentityDiff(residents_of(before, *candidates, units, *present),
                                   residents_of(after, *candidates, units, *present));
  view.settings = config::differing_settings(before, after);
  add_notes(view, before, after, units_off, directory);
  return view;
}

}  // namespace trireme::cli
