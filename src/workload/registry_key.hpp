// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace trireme::workload {

/// The registry's key of a workload: the path of its cgroup, or its container's id if it has no
/// cgroup of its own.
inline std::string key_of(const std::string& cgroup_path, const std::string& container_id) {
  return cgroup_path.empty() ? container_id : cgroup_path;
}

/// What a container's name gets in the registry while another workload has the same name.
inline std::string name_suffix(const std::string& container_id) {
  return "-" + container_id.substr(0, 12);
}

}  // namespace trireme::workload
