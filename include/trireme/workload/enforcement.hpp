// SPDX-License-Identifier: Apache-2.0
// The registry's interface to the kernel. points::Points implements it: the gate, and the table of
// each network namespace concerned (enforcer::Enforcer, which implements it for one of them). Once
// enforcement has started, a change is in effect when the call returns.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "trireme/kernel/netns.hpp"
#include "trireme/workload/workload.hpp"

namespace trireme::workload {

/// A cgroup as the rules refer to it.
struct CgroupRef {
  std::uint64_t id = 0;     // inode number of its directory
  std::uint32_t level = 0;  // depth below the root: 1 for "/trireme.slice"
  std::string path = {};    // below the root; may be empty if `whole_network`
  /// No socket of the cgroup can have an unchecked flow: the cgroup is new, or was always enforced.
  bool has_no_old_flows = false;
  /// Also applies to cgroups below it that are not enrolled themselves.
  bool is_default = false;
  /// The network namespace of its sockets; null: the daemon's own.
  std::shared_ptr<const kernel::Netns> network = nullptr;
  /// Every socket in `network` that belongs to no other enrolled cgroup belongs to this one.
  bool whole_network = false;
  /// `network` was not made for a workload: sockets there that belong to no enrolled cgroup are
  /// @host's, as in the daemon's own network namespace.
  bool unowned = false;
  /// It has sockets although no process is in it (a .socket unit).
  bool lone_sockets = false;
  /// Ids of removed cgroups whose sockets are kept for this one and get its number.
  std::vector<std::uint64_t> former = {};
};

class Enforcement {
 public:
  virtual ~Enforcement() = default;

  /// Enforces policy on the cgroup with these labels. If `number` is 0, a new number is allocated.
  /// Returns the number in use. Existing flows of the cgroup's sockets are re-evaluated, unless it
  /// is `has_no_old_flows` or was in quarantine. Replaces the cgroup's previous state at once: a
  /// quarantine, or an enrollment with other labels, whose number is released.
  virtual Result<policy::Number> enrol(CgroupRef cgroup, const policy::LabelSet& labels,
                                       policy::Number number) = 0;
  /// Enforces policy on an enrolled cgroup in one more network namespace, with its current number.
  /// An older number of the cgroup in that namespace is replaced.
  virtual Status extend(CgroupRef cgroup, const policy::LabelSet& labels,
                        policy::Number number) = 0;
  /// Drops all traffic to and from the cgroup, in every network namespace that it was enrolled in
  /// and including existing flows. Replaces an enrollment, whose number is released. Has no effect
  /// on a cgroup that is already quarantined. Without a cgroup (id 0), applies to the whole network
  /// namespace except other enrolled cgroups.
  virtual Status quarantine(CgroupRef cgroup) = 0;
  /// Removes the cgroup, enrolled or quarantined (number 0), from every network namespace. It no
  /// longer exists or is about to be removed. Its sockets that other processes still have are in
  /// quarantine in the gate until the last one is closed.
  virtual Status end(const CgroupRef& cgroup, policy::Number number) = 0;
  /// Removes a cgroup that continues to exist and is not a workload (any more). Its sockets become
  /// those of unlabeled processes. Also ends a quarantine that the gate's tracing program began
  /// when the cgroup was created.
  virtual Status release(const CgroupRef& cgroup, policy::Number number) {
    return end(cgroup, number);
  }
};

}  // namespace trireme::workload
