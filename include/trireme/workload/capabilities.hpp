// SPDX-License-Identifier: Apache-2.0
// How a container could bypass its own policy, according to its configuration. This is known before
// the container has a process.
//
// capability_warnings() of workload.hpp reports the capabilities that a process holds now. A
// container can gain every capability in its bounding set: a set-user-ID program or file
// capabilities in its image are enough.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace trireme::workload {

/// From `docker inspect`: HostConfig's Privileged, CapAdd, CapDrop and PidMode, and Mounts.
/// Capability names may have the prefix "CAP_", in any case; "ALL" means all capabilities.
struct ContainerCapabilities {
  bool privileged = false;
  std::vector<std::string> add;
  std::vector<std::string> drop;
  bool has_host_pids = false;      // PidMode "host"
  bool has_docker_socket = false;  // a mount contains Docker's or Podman's socket
};

/// One warning for each way in which the container could bypass policy and that `held`, the
/// warnings of capability_warnings() about its process, does not contain. Docker's default
/// capabilities are included, so a container has CAP_NET_RAW unless it is dropped. No warning
/// starts with "CAP_", which is reserved for capability_warnings().
[[nodiscard]] std::vector<std::string> container_warnings(const ContainerCapabilities& capabilities,
                                                          const std::vector<std::string>& held);

/// The capability that a warning of capability_warnings() or container_warnings() is about:
/// "CAP_NET_RAW". Empty for other warnings.
[[nodiscard]] std::string_view capability_of(std::string_view warning);

}  // namespace trireme::workload
