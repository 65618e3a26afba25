// SPDX-License-Identifier: Apache-2.0
// What Docker lets a container do to its own policy, from its configuration: known before there is
// a process to look at.
//
// capability_warnings() of workload.hpp tells what the process holds now. A container can come to
// hold what its bounding set allows: a set-user-id program or file capabilities in its image are
// enough.
#pragma once

#include <string>
#include <vector>

namespace trireme::workload {

/// Of `docker inspect`: HostConfig's Privileged, CapAdd, CapDrop and PidMode, and Mounts. Names
/// with or without "CAP_", any case; "ALL" is every one.
struct ContainerCapabilities {
  bool privileged = false;
  std::vector<std::string> add;
  std::vector<std::string> drop;
  bool has_host_pids = false;      // PidMode "host"
  bool has_docker_socket = false;  // a mount that holds Docker's or Podman's socket
};

/// A line for each thing that the container may do and that `held`, the warnings about its process,
/// does not say yet. Docker's default set counts: it has CAP_NET_RAW. No line starts with "CAP_":
/// those are capability_warnings()'s own.
[[nodiscard]] std::vector<std::string> container_warnings(const ContainerCapabilities& capabilities,
                                                          const std::vector<std::string>& held);

}  // namespace trireme::workload
