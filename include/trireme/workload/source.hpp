// SPDX-License-Identifier: Apache-2.0
// What every source of workloads shares: settings, news of cgroups, a line for `trirectl status`.
#pragma once

#include <memory>
#include <string>

#include "trireme/policy/identity.hpp"
#include "trireme/workload/registry.hpp"

namespace trireme::workload {

/// Directories of a source's cgroups are announced to whoever asked. Implemented by CgroupEvents
/// (one inotify for all sources).
class Source {
 public:
  virtual ~Source() = default;
  /// New settings after a reload; the source reconciles by itself.
  virtual void configure(std::shared_ptr<const policy::Identity> identity) = 0;
  /// A cgroup directory appeared, or was there when CgroupEvents started. Returns true when it
  /// belongs to this source. Must act at once: the first instruction follows in milliseconds. Never
  /// called twice for one directory, but for a path again when a new directory has taken it.
  virtual bool cgroup_born(const std::string& path) = 0;
  /// A cgroup directory went away. The registry forgets the workload by itself afterwards.
  virtual void cgroup_gone(const std::string& path) = 0;
  /// One line for `trirectl status`: "connected, 12 containers" or why not.
  [[nodiscard]] virtual std::string status() const = 0;
};

}  // namespace trireme::workload
