// SPDX-License-Identifier: Apache-2.0
// The policy of the gate. It covers the workloads of all enforcement points, because the gate's
// programs see the sockets of all network namespaces.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "trireme/gate/gate.hpp"
#include "trireme/kernel/cgroup.hpp"
#include "trireme/policy/compile.hpp"
#include "trireme/policy/names.hpp"
#include "trireme/workload/enforcement.hpp"

namespace trireme::enforcer {

/// One endpoint of a flow as the gate sees it: a number (abi::kHost included) and an address.
struct LocalEnd {
  policy::Number number = 0;
  policy::Address address;
};

class LocalPolicy {
 public:
  LocalPolicy(const kernel::CgroupTree& tree, std::unique_ptr<gate::Gate> gate,
              std::shared_ptr<const policy::Policy> policy);

  /// Writes everything enrolled so far and replaces the programs of an earlier daemon. Cgroups that
  /// the earlier daemon knew and that were not enrolled since have been removed; their remaining
  /// sockets are quarantined. Until start(), the other functions only update the model.
  [[nodiscard]] Status start();

  /// `cgroup.id` is not 0.
  [[nodiscard]] Status enrol(const workload::CgroupRef& cgroup, policy::Number number,
                             const policy::LabelSet& labels);
  [[nodiscard]] Status quarantine(const workload::CgroupRef& cgroup);
  /// The cgroup was removed. Its sockets that other processes still hold are quarantined.
  [[nodiscard]] Status end(std::uint64_t cgroup_id);
  /// The cgroup is not a workload: its sockets become those of unlabeled processes. Also releases a
  /// cgroup that trireme_born quarantined at its creation.
  [[nodiscard]] Status release(std::uint64_t cgroup_id);

  // These forward to gate::Gate.
  [[nodiscard]] Status quarantine_births(gate::Engines wanted) {
    return gate_->quarantine_births(wanted);
  }
  [[nodiscard]] gate::Births births() const { return gate_->births(); }
  [[nodiscard]] bool is_held(std::uint64_t cgroup_id) const { return gate_->is_held(cgroup_id); }
  [[nodiscard]] bool is_scarce() const { return gate_->is_scarce(); }
  [[nodiscard]] Status look_through() { return gate_->look_through(); }

  /// Gives the sockets of a removed cgroup the number of a workload, until orphan(), which
  /// quarantines them.
  [[nodiscard]] Status adopt(std::uint64_t cgroup_id, policy::Number number);
  [[nodiscard]] Status orphan(std::uint64_t cgroup_id);

  /// Compares the kernel with the model and repairs differences: that the programs are attached,
  /// and the number of a cgroup. Returns true if something had to be repaired.
  [[nodiscard]] Result<bool> check_programs() const;
  [[nodiscard]] Result<bool> check_number(std::uint64_t cgroup_id) const;

  /// A reload: prepare() loads the new policy beside the one in force, and packets pass that either
  /// of them allows. Then finish() switches to the new policy, or cancel() discards it.
  [[nodiscard]] Status prepare(std::shared_ptr<const policy::Policy> policy);
  [[nodiscard]] Status finish();
  void cancel();

  // --- addresses of @host, by which rules distinguish its sockets ---

  /// The addresses of this host; loopback addresses are always included.
  [[nodiscard]] Status set_own(std::vector<policy::Prefix> addresses);
  /// DNS names of an address, whether it is this host's or not; empty when they have expired.
  [[nodiscard]] Status set_names(const policy::Address& address, std::vector<std::string> names);

  // --- what the gate decides ---

  /// Number of the sockets of a cgroup, by cgroup id. A cgroup that is absent belongs to @host.
  using Owners = std::unordered_map<std::uint64_t, policy::Number>;
  [[nodiscard]] Result<Owners> owners() const;
  /// Ids of all existing cgroups. The owner of a socket whose cgroup is neither here nor in
  /// owners() is unknown.
  [[nodiscard]] std::unordered_set<std::uint64_t> living_cgroups() const;
  /// True if the gate of an earlier daemon is in force until start().
  [[nodiscard]] bool takes_over() const { return gate_->takes_over(); }
  /// True once start() has put this policy in force.
  [[nodiscard]] bool live() const { return live_; }
  /// True if the policy in force allows a flow from `from` to this port of `to`.
  [[nodiscard]] bool allows(const LocalEnd& from, const LocalEnd& to, std::uint8_t protocol,
                            std::uint16_t port) const;
  /// True in audit mode: what would be refused passes.
  [[nodiscard]] bool audits() const;

  [[nodiscard]] Result<gate::Refusals> refusals() const { return gate_->refusals(); }
  [[nodiscard]] int refused_fd() const { return gate_->refused_fd(); }
  [[nodiscard]] std::vector<gate::Refused> take_refused() { return gate_->take_refused(); }
  [[nodiscard]] int canary() const { return gate_->canary(); }
  ~LocalPolicy();
  LocalPolicy(const LocalPolicy&) = delete;
  LocalPolicy& operator=(const LocalPolicy&) = delete;

 private:
  [[nodiscard]] Status change(const policy::Delta& delta);
  [[nodiscard]] Status write_all();
  [[nodiscard]] Status forget(std::uint64_t cgroup_id);
  struct Version;
  [[nodiscard]] std::unique_ptr<Version> compile(std::shared_ptr<const policy::Policy> policy,
                                                 std::uint32_t first_id) const;
  [[nodiscard]] bool is_own(const policy::Address& address) const;
  /// The change of `version` that the current names of `address` require.
  [[nodiscard]] policy::Delta name(Version& version, const policy::Address& address) const;
  void list_below(const std::string& path, std::unordered_set<std::uint64_t>& ids) const;
  void inherit(const std::string& path, policy::Number number, Owners& owners) const;

  struct Member {
    policy::Number number = 0;
    std::string path;  // may be empty (not known)
  };
  const kernel::CgroupTree& tree_;
  std::unique_ptr<gate::Gate> gate_;
  std::unordered_map<std::uint64_t, Member> members_;  // by cgroup id
  std::map<std::uint64_t, policy::Number> adopted_;    // by id of a removed cgroup
  std::map<policy::Number, policy::LabelSet> labels_;
  std::vector<policy::Prefix> own_;
  std::map<policy::Address, std::vector<std::string>> names_;
  std::unique_ptr<Version> now_, next_;
  bool live_ = false;
};

}  // namespace trireme::enforcer
