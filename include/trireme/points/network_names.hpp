// SPDX-License-Identifier: Apache-2.0
// What network namespaces are called in listings and metrics.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "trireme/workload/workload.hpp"

namespace trireme::points {

/// The name of this host's own network namespace beside those of workloads: an entity's name,
/// which no workload has.
inline constexpr const char* kHostNetwork = "@host";

/// A different name for each network namespace of these workloads, by inode number: that of the
/// first workload there. A further namespace of a workload has the kernel's name for it added:
/// "web net:[4026532281]".
[[nodiscard]] std::map<std::uint64_t, std::string> network_names(
    const std::vector<const workload::Workload*>& workloads);
/// The kernel's own name, for a namespace without a workload.
[[nodiscard]] std::string network_name(std::uint64_t inode);

}  // namespace trireme::points
