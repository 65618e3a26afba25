// SPDX-License-Identifier: Apache-2.0
// What runs on a host and could be a workload, and which of it is one under given settings. Pure.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "trireme/config/container_labels.hpp"
#include "trireme/config/host.hpp"
#include "trireme/policy/identity_diff.hpp"

namespace trireme::workload {

struct Candidates {
  /// A command that trirun has started: a workload under any settings.
  struct Process {
    std::string name;
    std::string cgroup;
    policy::LabelSet own_labels;
  };
  struct Container {
    std::string id;
    std::string name;
    std::string cgroup;                       // empty if it has none of its own
    std::optional<bool> has_own_network;      // not the host's; nullopt: not known
    std::optional<config::RawLabels> labels;  // the image's included; nullopt: not known
    std::optional<config::RawLabels> image_labels;
    [[nodiscard]] const std::string& key() const { return cgroup.empty() ? id : cgroup; }
  };
  std::vector<Process> processes;
  std::vector<Container> containers;
  std::vector<std::string> units;  // cgroups
};

/// The unit's name and its labels, without [host] labels, if an entry of `host` matches its cgroup.
using MatchUnit = std::function<std::optional<std::pair<std::string, policy::LabelSet>>(
    const std::string& cgroup)>;

/// The workloads under these settings, quarantined ones included. A container whose labels are not
/// known is in quarantine.
[[nodiscard]] std::vector<policy::Resident> residents(const config::Host& host,
                                                      const Candidates& candidates,
                                                      const MatchUnit& match);

}  // namespace trireme::workload
