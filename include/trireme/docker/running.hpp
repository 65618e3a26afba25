// SPDX-License-Identifier: Apache-2.0
// A one-time, blocking query of the container engines for their running containers. It needs
// neither Source nor the daemon's event loop.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/config/container_labels.hpp"

namespace trireme::docker {

struct RunningContainer {
  std::string id;
  std::string name;
  std::uint32_t pid = 0;
  std::string cgroup;        // path of its own cgroup v2 cgroup; empty if it has none
  config::RawLabels labels;  // the image's included
  config::RawLabels image_labels;
};

/// A container's cgroup that no engine reported.
struct UnreportedContainer {
  std::string name;    // "Podman container 0123456789ab"
  std::string reason;  // why no engine reported it
};

struct RunningContainers {
  std::vector<RunningContainer> reported;  // by an engine
  // Would be in quarantine until their engine reports them.
  std::vector<UnreportedContainer> unreported;
  std::vector<UnreportedContainer> left_alone;  // of engines that are not configured
};

/// The engines whose containers may be workloads.
struct ConfiguredEngines {
  bool docker = false;
  bool podman = false;
};
/// Derived from the paths in [docker] socket. A path that names neither engine counts as both.
[[nodiscard]] ConfiguredEngines configured_engines(const config::DockerSettings& settings);

/// `cgroups` are the paths of the containers' cgroups that have processes. An engine is queried
/// only if one of these may be its own, because connecting to a socket may start the engine. An
/// engine that does not answer within `patience` reports no container. Blocks.
[[nodiscard]] RunningContainers running_containers(const config::DockerSettings& settings,
                                                   const std::vector<std::string>& cgroups,
                                                   std::chrono::milliseconds patience);

/// The container's id in the name of its cgroup directory; empty if it is of no container.
[[nodiscard]] std::string container_id(std::string_view name);
/// True if a cgroup directory with this name belongs to a container.
[[nodiscard]] bool is_container_cgroup(std::string_view name);

}  // namespace trireme::docker
