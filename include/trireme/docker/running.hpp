// Docker's running containers, asked for once and waited for: a look at a host without the source's
// event loop.
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

/// An error where Docker does not answer within `patience`.
[[nodiscard]] Result<std::vector<RunningContainer>> running_containers(
    const policy::DockerSettings& settings, std::chrono::milliseconds patience);

/// Whether a cgroup of this name is a container's.
[[nodiscard]] bool is_container_cgroup(std::string_view name);

}  // namespace trireme::docker
