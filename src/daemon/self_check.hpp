// SPDX-License-Identifier: Apache-2.0
// Compares the kernel with what the daemon has told it, a little at a time, and mends what differs:
// the gate's programs, the numbers of cgroups in its map, and the network namespaces that processes
// of workloads are in. What is in nf_tables is Drift's.
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
  /// All references outlive this object. Errors: the event loop.
  [[nodiscard]] static Result<std::unique_ptr<SelfCheck>> open(sd_event* loop,
                                                               const kernel::CgroupTree& tree,
                                                               workload::Registry& registry,
                                                               enforcer::LocalPolicy& local,
                                                               Problems& problems);
  SelfCheck(const SelfCheck&) = delete;
  SelfCheck& operator=(const SelfCheck&) = delete;

  /// A command has been started in this cgroup: where its processes are is looked at every few
  /// milliseconds for its first seconds, in which commands such as 'ip netns exec' go elsewhere.
  void watch_start(const std::string& cgroup_path);

  /// Differences of the gate that were mended.
  [[nodiscard]] std::uint64_t gate_repairs() const { return gate_repairs_; }
  /// Workloads that were found elsewhere: enforced there, quarantined, or released again.
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
  void note_gate(const Result<bool>& mended, const std::string& what);

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
  std::string checked_;  // the name of the last workload that was looked at
  /// Of workloads with more processes than a turn looks at, by the ids of their cgroups.
  std::map<std::uint64_t, workload::NetworkSurvey> surveys_;
  std::uint64_t gate_repairs_ = 0;
  std::uint64_t moves_ = 0;
};

}  // namespace trireme::daemon
