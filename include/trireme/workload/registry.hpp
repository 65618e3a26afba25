// Every workload of this enforcement point, and the one way to change that: sources call it, it calls Enforcement.
//
// The labels and the number of an enforced workload are written on its cgroup, so a restarted daemon finds them again (recover()).
// Failures leave the workload quarantined with a reason, never open; one workload's failure touches no other.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "trireme/kernel/cgroup.hpp"
#include "trireme/workload/enforcement.hpp"
#include "trireme/workload/workload.hpp"

namespace trireme::workload {

/// A workload as its source describes it.
struct Description {
  std::string name;
  Kind kind = Kind::process;
  policy::LabelSet labels;  // without [host] labels
  std::string cgroup_path;
  std::uint32_t pid = 0;
  std::string container_id;
};

class Registry {
 public:
  Registry(const kernel::CgroupTree& tree, Enforcement& enforcement);

  /// [host] labels from identity.toml, added to every workload; a change re-enrols what is enforced.
  void set_host_labels(const policy::LabelSet& labels);

  /// Workloads whose records are on their cgroups, found by walking the tree; called once, before Enforcement is live: enrols each with the number
  /// it had. Returns how many.
  Result<std::size_t> recover();

  /// Puts the workload under policy: kernel first, then the xattrs, then the registry. On failure it is quarantined and the error returned.
  /// Known already with the same labels and cgroup: nothing happens.
  Status enrol(const Description& description);
  /// Drops all its traffic until enrol() or end().
  Status quarantine(const Description& description, const std::string& reason);
  /// Lists a workload that is outside this enforcement point (bridge container); `reason` is shown.
  void list_unenforced(const Description& description, const std::string& reason);
  /// The cgroup or the container is gone.
  void end_cgroup(const std::string& cgroup_path);
  void end_container(const std::string& container_id);
  /// No longer a workload although its cgroup lives on ([[unit]] entry removed): forgets it and clears the xattrs.
  void release(const std::string& cgroup_path);

  [[nodiscard]] const Workload* find_cgroup(const std::string& cgroup_path) const;
  [[nodiscard]] const Workload* find_container(const std::string& container_id) const;
  [[nodiscard]] const Workload* find_name(const std::string& name) const;
  [[nodiscard]] const Workload* find_number(policy::Number number) const;
  /// In name order.
  [[nodiscard]] std::vector<const Workload*> all() const;
  [[nodiscard]] std::size_t size() const;

  /// Called after each change of a workload; `ended` true when it left the registry.
  std::function<void(const Workload&, bool ended)> on_change;

 private:
  struct Entry;
  const kernel::CgroupTree& tree_;
  Enforcement& enforcement_;
  policy::LabelSet host_labels_;
  std::map<std::string, Workload> by_key_;                  // key: cgroup path, or container id where there is no cgroup
  std::map<std::string, std::string> key_by_container_;
  std::map<std::string, std::string> key_by_name_;
  std::map<policy::Number, std::string> key_by_number_;
};

}  // namespace trireme::workload
