// SPDX-License-Identifier: Apache-2.0
// Compares the state of the kernel with the state that the daemon has written, a part per second,
// and repairs differences: the gate's programs, the numbers of cgroups in its map, and the network
// namespaces of the processes of workloads. Drift does the same for nf_tables.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>

#include "problems.hpp"
#include "trireme/base/event.hpp"
#include "trireme/enforcer/local_policy.hpp"
#include "trireme/workload/registry.hpp"

namespace trireme::daemon {

class SelfCheck {
 public:
  /// All references must outlive this object. Errors: the event loop fails.
  [[nodiscard]] static Result<std::unique_ptr<SelfCheck>> open(sd_event* loop,
                                                               const kernel::CgroupTree& tree,
                                                               workload::Registry& registry,
                                                               enforcer::LocalPolicy& local,
                                                               Problems& problems);
  SelfCheck(const SelfCheck&) = delete;
  SelfCheck& operator=(const SelfCheck&) = delete;

  /// Call it when a command has been started in this cgroup. Checks the network namespaces of its
  /// processes every 20 ms for 2 s, because commands such as 'ip netns exec' change theirs right
  /// after the start.
  void watch_start(const std::string& cgroup_path);

  /// Differences of the gate that were repaired.
  [[nodiscard]] std::uint64_t gate_repairs() const { return gate_repairs_; }
  /// Workloads found in another network namespace. They are enforced there, quarantined, or
  /// released from quarantine.
  [[nodiscard]] std::uint64_t moves() const { return moves_; }

 private:
  SelfCheck(const kernel::CgroupTree& tree, workload::Registry& registry,
            enforcer::LocalPolicy& local, Problems& problems)
      : tree_(tree), registry_(registry), local_(local), problems_(problems) {}
  void check();
  void check_workloads();
  void check_young();
  [[nodiscard]] std::size_t check_workload(const workload::Workload& workload, std::size_t limit);
  void check_networks(workload::NetworkSurvey& survey, std::size_t& limit);
  /// Counts and logs what a check of the gate repaired, or why it could not.
  void note_gate(const Result<bool>& repaired, const std::string& what);

  const kernel::CgroupTree& tree_;
  workload::Registry& registry_;
  enforcer::LocalPolicy& local_;
  Problems& problems_;
  event::Timer timer_;
  event::Timer young_timer_;
  struct Young {
    workload::NetworkSurvey survey;
    std::chrono::steady_clock::time_point until;
  };
  std::deque<Young> young_;
  std::string checked_;  // the name of the workload that was checked last
  /// Unfinished surveys of workloads with more processes than one turn checks, by cgroup id.
  std::map<std::uint64_t, workload::NetworkSurvey> surveys_;
  std::uint64_t gate_repairs_ = 0;
  std::uint64_t moves_ = 0;
};

}  // namespace trireme::daemon
