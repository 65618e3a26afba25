// SPDX-License-Identifier: Apache-2.0
// The interface of every source of workloads: settings, cgroup events, a line for `trirectl
// status`.
#pragma once

#include <memory>
#include <string>

#include "trireme/config/host.hpp"
#include "trireme/workload/registry.hpp"

namespace trireme::workload {

/// Finds workloads of one kind. CgroupEvents calls the cgroup_*() methods of all sources.
class Source {
 public:
  virtual ~Source() = default;
  /// Applies new settings after a load. The source updates its workloads accordingly.
  virtual void configure(std::shared_ptr<const config::Host> host) = 0;
  /// A cgroup directory was created, or existed when CgroupEvents started. Returns true if it
  /// belongs to this source. Must act immediately: the workload's first instruction follows within
  /// milliseconds. CgroupEvents reports each directory once, and a path again if a new directory
  /// has the same path.
  virtual bool cgroup_born(const std::string& path) = 0;
  /// A cgroup directory was removed. CgroupEvents removes the workload from the registry
  /// afterwards.
  virtual void cgroup_gone(const std::string& path) = 0;
  /// One line for `trirectl status`: "connected, 12 containers", or why it is not connected.
  [[nodiscard]] virtual std::string status() const = 0;
};

}  // namespace trireme::workload
