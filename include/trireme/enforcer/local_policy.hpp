// What the gate decides with: one policy over the workloads of every enforcement point, since its
// programs see the sockets of all network namespaces.
#pragma once

#include <map>
#include <memory>
#include <unordered_map>

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
  /// What is left of the cgroup, sockets in other processes, is in quarantine.
  [[nodiscard]] Status end(std::uint64_t cgroup_id);
  /// The cgroup is no workload, and its sockets are those of any process; whether it was known
  /// here, or quarantined by the kernel at its birth.
  [[nodiscard]] Status release(std::uint64_t cgroup_id);

  /// As Gate's.
  [[nodiscard]] Status quarantine_births(bool wanted) { return gate_->quarantine_births(wanted); }
  [[nodiscard]] gate::Births births() const { return gate_->births(); }
  [[nodiscard]] Status look_through() { return gate_->look_through(); }

  /// Prepares the new policy beside the one in force; then either of the others.
  [[nodiscard]] Status prepare(std::shared_ptr<const policy::Policy> policy);
  [[nodiscard]] Status finish();
  void cancel();

  [[nodiscard]] Result<gate::Refusals> refusals() const { return gate_->refusals(); }
  [[nodiscard]] int refused_fd() const { return gate_->refused_fd(); }
  [[nodiscard]] std::vector<gate::Refused> take_refused() { return gate_->take_refused(); }
  [[nodiscard]] int canary() const { return gate_->canary(); }

 private:
  [[nodiscard]] Status change(const policy::Delta& delta);
  [[nodiscard]] Status write_all();
  [[nodiscard]] Status forget(std::uint64_t cgroup_id);

  std::unique_ptr<gate::Gate> gate_;
  std::shared_ptr<const policy::Policy> policy_, next_policy_;
  std::unique_ptr<policy::Compiler> compiler_, next_;
  std::unordered_map<std::uint64_t, policy::Number> numbers_;  // by cgroup id
  std::map<policy::Number, policy::LabelSet> labels_;
  bool live_ = false;
};

}  // namespace trireme::enforcer
