// What the gate decides with: one policy over the workloads of every enforcement point, since its
// programs see the sockets of all network namespaces.
#pragma once

#include <map>
#include <memory>

#include "trireme/gate/gate.hpp"
#include "trireme/policy/compile.hpp"

namespace trireme::enforcer {

class LocalPolicy {
 public:
  LocalPolicy(std::unique_ptr<gate::Gate> gate, std::shared_ptr<const policy::Policy> policy);

  /// Puts everything so far in force, and the programs in the place of an earlier daemon's. What
  /// that one knew and nobody has told of since is in quarantine: its cgroup has gone meanwhile.
  /// Before it the others only remember.
  [[nodiscard]] Status start();

  [[nodiscard]] Status enrol(std::uint64_t cgroup_id, policy::Number number,
                             const policy::LabelSet& labels);
  [[nodiscard]] Status quarantine(std::uint64_t cgroup_id);
  /// `lives_on`: the cgroup is there and has processes, which are nobody's in particular now. Else
  /// what is left of it, sockets in other processes, is in quarantine.
  [[nodiscard]] Status end(std::uint64_t cgroup_id, bool lives_on);

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

  [[nodiscard]] Result<gate::Refusals> refusals() const { return gate_->refusals(); }

 private:
  [[nodiscard]] Status change(const policy::Delta& delta);
  [[nodiscard]] Status write_all();
  [[nodiscard]] Status forget(std::uint64_t cgroup_id);

  std::unique_ptr<gate::Gate> gate_;
  std::shared_ptr<const policy::Policy> policy_, next_policy_;
  std::unique_ptr<policy::Compiler> compiler_, next_;
  std::map<std::uint64_t, policy::Number> numbers_;  // by cgroup id
  std::map<std::uint64_t, policy::Number> adopted_;  // of cgroups that are gone, by their ids
  std::map<policy::Number, policy::LabelSet> labels_;
  bool live_ = false;
};

}  // namespace trireme::enforcer
