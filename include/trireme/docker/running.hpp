// SPDX-License-Identifier: Apache-2.0
// The engines' running containers, asked for once and waited for: a look at a host without the
// source's event loop.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/policy/identity.hpp"

namespace trireme::docker {

struct RunningContainer {
  std::string name;
  std::uint32_t pid = 0;
  std::string cgroup;               // its own in cgroup v2; empty where it has none
  Result<policy::LabelSet> labels;  // its identity
};

/// A container's cgroup that no engine has told of.
struct UntoldContainer {
  std::string name;    // "Podman's 0123456789ab"
  std::string reason;  // why
};

struct RunningContainers {
  std::vector<RunningContainer> told;
  std::vector<UntoldContainer> untold;      // to be in quarantine until their engine tells of them
  std::vector<UntoldContainer> left_alone;  // of engines that are not configured
};

/// Whose containers may be workloads.
struct ConfiguredEngines {
  bool docker = false;
  bool podman = false;
};
/// By the paths of the sockets: one that does not tell may be either's.
[[nodiscard]] ConfiguredEngines configured_engines(const policy::DockerSettings& settings);

/// `cgroups` are those of containers that have processes: engines are asked
/// only where one of them may be theirs, since a socket may start its engine.
/// An engine that does not answer within `patience` tells of nothing.
[[nodiscard]] RunningContainers running_containers(const policy::DockerSettings& settings,
                                                   const std::vector<std::string>& cgroups,
                                                   std::chrono::milliseconds patience);

/// Whether a cgroup of this name is a container's.
[[nodiscard]] bool is_container_cgroup(std::string_view name);

}  // namespace trireme::docker
