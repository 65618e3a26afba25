// SPDX-License-Identifier: Apache-2.0
// What the registry asks of the kernel; the enforcer answers. Each call is one netlink transaction,
// in force when it returns.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "trireme/kernel/netns.hpp"
#include "trireme/workload/workload.hpp"

namespace trireme::workload {

/// A cgroup as rules see it. `level` is its depth below the root (1 for "/trireme.slice").
struct CgroupRef {
  std::uint64_t id = 0;
  std::uint32_t level = 0;
  std::string path = {};  // below the root; may be empty where `whole_network`
  bool settled =
      false;  // no flow of its sockets can have gone unjudged: it is new, or was enforced all along
  bool is_default = false;  // stands for those below it that are not enrolled themselves
  std::shared_ptr<const kernel::Netns> network =
      nullptr;  // where its sockets are; null: the daemon's own network namespace
  bool whole_network =
      false;  // every socket of `network` that no other enrolled cgroup has is this one's
  bool unowned = false;  // `network` was not made for a workload: what no enrolled cgroup has there
                         // is @host's, as in our own
  bool lone_sockets = false;  // it has sockets though no process is in it (a .socket unit)
  std::vector<std::uint64_t> former =
      {};  // cgroups that are gone, whose sockets are kept for this one and bear its number
};

class Enforcement {
 public:
  virtual ~Enforcement() = default;

  /// Puts the cgroup under policy with these labels. `number` 0 takes a fresh one; the number used
  /// is returned. Flows that sockets of the cgroup already have are judged anew, unless it is
  /// `settled` or has been in quarantine. Replaces, in the same transaction, what the cgroup had
  /// before: a quarantine, or an enrolment with other labels, whose number ends with it.
  virtual Result<policy::Number> enrol(CgroupRef cgroup, const policy::LabelSet& labels,
                                       policy::Number number) = 0;
  /// Puts an enrolled cgroup under policy in a further network namespace, with the number that it
  /// has. Where it is there already, with a number of before, that one is replaced.
  virtual Status extend(CgroupRef cgroup, const policy::LabelSet& labels,
                        policy::Number number) = 0;
  /// Drops everything to and from the cgroup in every network namespace that it was enrolled in,
  /// flows that it already has included. Replaces an enrolment, whose number ends with it; of a
  /// cgroup in quarantine nothing changes. Without a cgroup (id 0): everything of its whole
  /// network, that of other enrolled cgroups apart.
  virtual Status quarantine(CgroupRef cgroup) = 0;
  /// Forgets the cgroup, enrolled or quarantined (number 0), in every network namespace; it is gone
  /// or about to go. Sockets that were made in it and live on elsewhere are nobody's.
  virtual Status end(const CgroupRef& cgroup, policy::Number number) = 0;
  /// Forgets the cgroup, which stays and is a workload no longer, or never was: its sockets are
  /// those of any process. What the kernel took it for at its birth ends too.
  virtual Status release(const CgroupRef& cgroup, policy::Number number) {
    return end(cgroup, number);
  }
};

}  // namespace trireme::workload
