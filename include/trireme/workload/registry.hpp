// SPDX-License-Identifier: Apache-2.0
// All workloads of this daemon. Every change goes through the registry: sources call it, and it
// calls Enforcement.
//
// The labels and the number of an enforced workload are stored in xattrs of its cgroup, so that a
// restarted daemon finds them (recover()). A failure leaves the workload quarantined with a reason,
// never unrestricted, and affects no other workload. A workload without its own cgroup is
// identified by its container id, has no stored record, and must have a network namespace of its
// own.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "trireme/kernel/cgroup.hpp"
#include "trireme/workload/enforcement.hpp"
#include "trireme/workload/hold.hpp"
#include "trireme/workload/network.hpp"
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
  bool has_no_old_flows = false;           // as in CgroupRef
  std::vector<std::string> warnings = {};  // the source's; the registry adds those about `pid`
  std::vector<Place> places = {Place{}};   // as in Workload; exactly one without a cgroup
  std::vector<std::uint64_t> former = {};  // as in CgroupRef; added to those already known
  std::vector<policy::PublishedPort> published = {};  // as in Workload
};

class Registry {
 public:
  Registry(const kernel::CgroupTree& tree, Enforcement& enforcement);

  /// [host] labels from identity.toml, which are added to every workload. If a workload has the
  /// same key, the host's value is used. A change re-enrolls all enforced workloads with new
  /// numbers.
  void set_host_labels(const policy::LabelSet& labels);

  /// Restores the workloads of an earlier daemon from the records on their cgroups. Must be called
  /// once, after set_host_labels() and before Enforcement starts. Enrolls each workload with its
  /// former number in its former network namespaces. Quarantines a workload that was in quarantine,
  /// whose record is unreadable, or whose processes are no longer in its network namespace. Ignores
  /// records of the daemon of another network namespace. Returns the number of restored workloads.
  Result<std::size_t> recover();

  /// Enforces policy on the workload: first in the kernel, then in the xattrs, then in the
  /// registry. On failure the workload is quarantined and the error returned. If the workload is
  /// already known:
  ///   - same labels, cgroup and places: only pid, warnings and published ports are updated
  ///   - other labels: it gets a new number
  ///   - an additional network namespace: it is enforced there too, with the same number
  ///   - another value of Place::whole_network: it gets a new number, with a quarantine in between
  /// If another workload has the same name, a container or unit gets a suffix, and a process
  /// (trirun) is refused. A workload that a hold() covers stays in quarantine; that is no error.
  Status enrol(const Description& description);
  /// Drops all traffic of the workload until enrol() or end_*() is called. If the kernel refuses,
  /// the workload is still listed and the error is returned. Known places that `description` does
  /// not contain are kept.
  Status quarantine(const Description& description, const std::string& reason);
  /// Quarantines every workload that is enforced in this network namespace, until its source
  /// enrolls it again.
  void quarantine_network(const std::shared_ptr<const kernel::Netns>& network,
                          const std::string& reason);
  /// Lists a container that the kernel cannot identify, or that is left alone. `reason` is shown.
  /// Its cgroup_path is not stored.
  void list_unenforced(const Description& description, const std::string& reason);
  /// Must be called when the cgroup was removed. Has no effect if a directory with the same inode
  /// number still exists: the report was then about an older directory of the same path.
  void end_cgroup(const std::string& cgroup_path);
  /// Must be called when the container has ended. Processes that remain in its cgroup are
  /// quarantined until end_cgroup().
  void end_container(const std::string& container_id);
  /// The cgroup exists but is not a workload (its [[unit]] entry was removed, or the container is
  /// left alone). Removes the workload if it is known, clears the xattrs, and ends a quarantine
  /// that the kernel began when the cgroup was created. Has no effect on a workload that a hold()
  /// covers: after end_hold(), its source calls this again.
  void release(const std::string& cgroup_path);

  /// Quarantines a live workload by order of the user `by`, until end_hold(): whatever its source
  /// reports and the configuration says, and when a unit or container starts again. `by` and `why`
  /// must be printable. If the kernel refuses, or the order cannot be saved, the order stays and
  /// the error is returned. Errors without an order: no workload has this name, or it is unenforced
  /// or already held.
  Status hold(const std::string& name, const std::string& by, const std::string& why);
  /// Ends the order for the workload of this name, which need not be live, at the request of the
  /// user `by`. A process is enforced again unless it is quarantined for another reason too. A
  /// container or unit stays in quarantine until its source enrolls or releases it, so the sources
  /// must be configured again. Error: there is no such order.
  Status end_hold(const std::string& name, const std::string& by);
  [[nodiscard]] const std::vector<Hold>& holds() const { return holds_; }
  /// For each of holds(): whether a live workload is covered by it.
  [[nodiscard]] std::vector<bool> live_holds() const;
  /// True if an order is for a workload of this kind, live or not.
  [[nodiscard]] bool holds_any(Kind kind) const;
  /// The order that covers the workload; null if there is none.
  [[nodiscard]] const Hold* hold_on(const Workload& workload) const;
  /// The order that covers the described container or unit. A source must ask before it leaves
  /// alone what it would not make a workload: the order applies although the configuration or the
  /// labels have changed since.
  [[nodiscard]] const Hold* hold_on(const Description& description) const;
  /// The orders of an earlier daemon. Must be called before recover(), which adds those that only
  /// the records of their workloads tell of.
  void set_holds(std::vector<Hold> holds);
  /// Called after each change of holds(). Error: the change could not be saved.
  std::function<Status()> on_holds;

  /// Updates the warnings about the workload (capabilities of its process, labels that do not fit a
  /// token) and checks the network namespaces of its processes. For use after trirun's exec and
  /// before a listing. Cheap: reads a few small files.
  void examine(const std::string& cgroup_path);
  /// Compares the network namespaces of the workload's processes with those that it is enforced in.
  ///   - All processes are in one other namespace: the workload is enforced there too, as in
  ///     enrol(), up to kMostPlaces namespaces.
  ///   - Some processes are in another namespace that packets can leave (kernel::leads_out()): the
  ///     workload is quarantined until none or all of them are.
  /// Looks at no more than `limit` processes and subtracts the number from `limit`. A survey
  /// continues where it stopped, and only a complete survey ends a quarantine. Ignores containers,
  /// whose source determines their network namespace. Returns true if anything changed.
  bool check_networks(const std::string& cgroup_path, std::size_t& limit);
  bool check_networks(NetworkSurvey& survey, std::size_t& limit);
  static constexpr std::size_t kMostPlaces = 4;
  /// After the kernel refused to enforce a workload in the namespace of its processes: the time
  /// until the next attempt.
  std::chrono::milliseconds follow_again = std::chrono::seconds(10);

  [[nodiscard]] const Workload* find_cgroup(const std::string& cgroup_path) const;
  /// The workload of the cgroup with this id. Searches all workloads.
  [[nodiscard]] const Workload* find_cgroup_id(std::uint64_t cgroup_id) const;
  /// The workload that a process in `cgroup_path` belongs to: that of the cgroup itself or of its
  /// nearest ancestor that is a workload; null if there is none.
  [[nodiscard]] const Workload* find_enclosing(const std::string& cgroup_path) const;
  [[nodiscard]] const Workload* find_container(const std::string& container_id) const;
  [[nodiscard]] const Workload* find_name(const std::string& name) const;
  [[nodiscard]] const Workload* find_number(policy::Number number) const;
  /// Sorted by name.
  [[nodiscard]] std::vector<const Workload*> all() const;
  /// Sorted by name: up to `count` workloads whose names come after `name`.
  [[nodiscard]] std::vector<const Workload*> after(const std::string& name,
                                                   std::size_t count) const;
  [[nodiscard]] std::size_t size() const { return by_key_.size(); }

  /// Returns an error if these labels cannot be proved to remote hosts; the workloads that have
  /// them get it as a warning. If not set, all labels can be proved.
  std::function<Status(const policy::LabelSet&)> provable;
  /// Called after each change of a workload. `ended` is true if it has left the registry.
  std::function<void(const Workload&, bool ended)> on_change;

 private:
  [[nodiscard]] Result<policy::LabelSet> with_host_labels(const policy::LabelSet& own) const;
  [[nodiscard]] std::string free_name(const std::string& wanted, const std::string& container_id,
                                      const std::string& key) const;
  Status refresh(Workload known, const Description& description, std::vector<Place> places);
  [[nodiscard]] Result<std::uint64_t> id_of(const Description& description) const;
  [[nodiscard]] const Workload* find_key(const std::string& key) const;
  void supersede(const Description& description, std::uint64_t id);
  void look_at(Workload& workload) const;
  Status extend(Workload& known, std::vector<Place> places, bool has_no_old_flows);
  Status follow(Workload workload, std::uint64_t inode, std::uint32_t pid);
  Status follow_elsewhere(const Workload& workload, std::uint64_t inode, std::uint32_t pid);
  static void log_followed(const Workload& workload);
  [[nodiscard]] static bool is_elsewhere(const Workload& workload);
  Status block_elsewhere(const Workload& workload, std::uint32_t pid, const std::string& why);
  Status enforce(Workload workload, policy::Number number, bool has_no_old_flows);
  Status block(Workload workload, const std::string& reason);
  void take_over(Workload workload);
  void log_left(const Workload& workload) const;
  void end(const std::string& key);
  void forget_record(const std::string& cgroup_path) const;
  void store(Workload workload);
  void forget(const std::string& key);
  [[nodiscard]] bool is_only_held(const Workload& workload) const;
  void restore(Workload workload);
  void recall_hold(const Workload& workload);
  void end_hold_of(const Workload& workload);
  void forget_stale_holds();
  void index_holds();
  Status note_holds() const;

  static constexpr std::size_t kExamined = 64;  // processes to look at when checking one workload

  const kernel::CgroupTree& tree_;
  Enforcement& enforcement_;
  policy::LabelSet host_labels_;
  std::map<std::string, Workload> by_key_;  // key: cgroup path; container id without a cgroup
  std::map<std::string, std::string> key_by_container_;
  std::map<std::string, std::string> key_by_name_;
  std::map<policy::Number, std::string> key_by_number_;
  /// By key: when the kernel last refused to enforce a workload in the namespace of its processes.
  std::map<std::string, std::chrono::steady_clock::time_point> refused_;
  std::vector<Hold> holds_;
  std::unordered_multimap<std::string, std::size_t> hold_index_;  // by what they cover
};

/// The workloads that a daemon of this network namespace has recorded on their cgroups, whether it
/// runs or not: name, kind, cgroup and own labels. Unreadable records are left out.
[[nodiscard]] std::vector<Workload> recorded(const kernel::CgroupTree& tree);

/// Removes the records of this network namespace's daemon from every cgroup. Returns the number of
/// cgroups that had one.
std::size_t clear_records(const kernel::CgroupTree& tree);

}  // namespace trireme::workload
