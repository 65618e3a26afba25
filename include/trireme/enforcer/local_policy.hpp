// SPDX-License-Identifier: Apache-2.0
// What the gate decides with: one policy over the workloads of every enforcement point, since its
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

/// One end of a flow as the gate knows it: a number, kHost's included, and its address.
struct LocalEnd {
  policy::Number number = 0;
  policy::Address address;
};

class LocalPolicy {
 public:
  LocalPolicy(const kernel::CgroupTree& tree, std::unique_ptr<gate::Gate> gate,
              std::shared_ptr<const policy::Policy> policy);

  /// Puts everything so far in force, and the programs in the place of an earlier daemon's. What
  /// that one knew and nobody has told of since is in quarantine: its cgroup has gone meanwhile.
  /// Before it the others only remember.
  [[nodiscard]] Status start();

  /// `cgroup.id` is not 0.
  [[nodiscard]] Status enrol(const workload::CgroupRef& cgroup, policy::Number number,
                             const policy::LabelSet& labels);
  [[nodiscard]] Status quarantine(const workload::CgroupRef& cgroup);
  /// What is left of the cgroup, sockets in other processes, is in quarantine.
  [[nodiscard]] Status end(std::uint64_t cgroup_id);
  /// The cgroup is no workload, and its sockets are those of any process; whether it was known
  /// here, or quarantined by the kernel at its birth.
  [[nodiscard]] Status release(std::uint64_t cgroup_id);

  /// As Gate's.
  [[nodiscard]] Status quarantine_births(gate::Engines wanted) {
    return gate_->quarantine_births(wanted);
  }
  [[nodiscard]] gate::Births births() const { return gate_->births(); }
  [[nodiscard]] bool is_held(std::uint64_t cgroup_id) const { return gate_->is_held(cgroup_id); }
  [[nodiscard]] bool is_scarce() const { return gate_->is_scarce(); }
  [[nodiscard]] Status look_through() { return gate_->look_through(); }

  /// Sockets of a cgroup that is gone are those of the workload with this number, until orphan():
  /// then they are in quarantine.
  [[nodiscard]] Status adopt(std::uint64_t cgroup_id, policy::Number number);
  [[nodiscard]] Status orphan(std::uint64_t cgroup_id);

  /// Compares the kernel with what it was told, and mends what differs: the programs, the number of
  /// a cgroup that is there. Returns whether something did.
  [[nodiscard]] Result<bool> check_programs() const;
  [[nodiscard]] Result<bool> check_number(std::uint64_t cgroup_id) const;

  /// Prepares the new policy beside the one in force; then either of the others.
  [[nodiscard]] Status prepare(std::shared_ptr<const policy::Policy> policy);
  [[nodiscard]] Status finish();
  void cancel();

  // --- @host's addresses, by which rules tell its sockets apart ---

  /// The addresses of this host; loopback's are always its own.
  [[nodiscard]] Status set_own(std::vector<policy::Prefix> addresses);
  /// DNS names of an address, of this host or not; none where its time is over.
  [[nodiscard]] Status set_names(const policy::Address& address, std::vector<std::string> names);

  // --- what the gate decides ---

  /// Whose the sockets of a cgroup are, by its id: absent where they are @host's.
  using Owners = std::unordered_map<std::uint64_t, policy::Number>;
  [[nodiscard]] Result<Owners> owners() const;
  /// Ids of all cgroups that are there. A socket whose cgroup is neither here nor among owners() is
  /// nobody's that is known.
  [[nodiscard]] std::unordered_set<std::uint64_t> living_cgroups() const;
  /// Whether an earlier daemon's gate judges until start().
  [[nodiscard]] bool takes_over() const { return gate_->takes_over(); }
  /// Whether start() has put this policy in force.
  [[nodiscard]] bool live() const { return live_; }
  /// Whether the policy in force allows a flow to this port.
  [[nodiscard]] bool allows(const LocalEnd& from, const LocalEnd& to, std::uint8_t protocol,
                            std::uint16_t port) const;
  /// What is refused passes.
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
  /// What an address' names make of it.
  [[nodiscard]] policy::Delta name(Version& version, const policy::Address& address) const;
  void list_below(const std::string& path, std::unordered_set<std::uint64_t>& ids) const;
  void inherit(const std::string& path, policy::Number number, Owners& owners) const;

  struct Member {
    policy::Number number = 0;
    std::string path;  // may be empty
  };
  const kernel::CgroupTree& tree_;
  std::unique_ptr<gate::Gate> gate_;
  std::unordered_map<std::uint64_t, Member> members_;  // by cgroup id
  std::map<std::uint64_t, policy::Number> adopted_;    // of cgroups that are gone, by their ids
  std::map<policy::Number, policy::LabelSet> labels_;
  std::vector<policy::Prefix> own_;
  std::map<policy::Address, std::vector<std::string>> names_;
  std::unique_ptr<Version> now_, next_;
  bool live_ = false;
};

}  // namespace trireme::enforcer
