// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

namespace trireme::workload {

/// The registry's key of a workload: the path of its cgroup, or its container's id if it has no
/// cgroup of its own.
inline std::string key_of(const std::string& cgroup_path, const std::string& container_id) {
  return cgroup_path.empty() ? container_id : cgroup_path;
}

/// While another workload has the same name, a container's name gets a suffix in the registry: '-'
/// and so many digits of its id.
inline constexpr std::size_t kNameDigits = 12;

}  // namespace trireme::workload
