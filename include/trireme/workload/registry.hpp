// SPDX-License-Identifier: Apache-2.0
// Every workload of this enforcement point, and the one way to change that: sources call it, it
// calls Enforcement.
//
// The labels and the number of an enforced workload are written on its cgroup, so a restarted
// daemon finds them again (recover()). Failures leave the workload quarantined with a reason, never
// open; one workload's failure touches no other. A workload without a cgroup of its own is known by
// its container's id, has no record, and can only be one with a whole network namespace.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "trireme/kernel/cgroup.hpp"
#include "trireme/workload/enforcement.hpp"
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
  bool settled = false;  // as in CgroupRef
  std::vector<std::string> warnings =
      {};  // what the source knows; the registry adds what the capabilities of `pid` say
  std::vector<Place> places = {Place{}};   // as in Workload; of one without a cgroup, just one
  std::vector<std::uint64_t> former = {};  // as in CgroupRef; what is known already stays
};

class Registry {
 public:
  Registry(const kernel::CgroupTree& tree, Enforcement& enforcement);

  /// [host] labels from identity.toml, added to every workload; where a workload has the same key,
  /// the host's value wins. A change re-enrols what is enforced, under fresh numbers.
  void set_host_labels(const policy::LabelSet& labels);

  /// Workloads whose records are on their cgroups, found by walking the tree; called once, before
  /// Enforcement is live and after set_host_labels(): enrols each with the number it had, in the
  /// network namespaces it had. Quarantines what was in quarantine, what has an unreadable record,
  /// and what has no process left in the first of them. Records of another network namespace's
  /// daemon are left alone. Returns how many it took over.
  Result<std::size_t> recover();

  /// Puts the workload under policy: kernel first, then the xattrs, then the registry. On failure
  /// it is quarantined and the error returned. Known already with the same labels, cgroup and
  /// places: nothing happens (pid and warnings are brought up to date). Other labels: a fresh
  /// number. A further network: it is enforced there too, under the same number; those of before
  /// stay. Another share of a network: a fresh number, and quarantine in between. A name that
  /// another workload bears: containers and units get a suffix, a process (trirun) is refused.
  Status enrol(const Description& description);
  /// Drops all its traffic until enrol() or end_*(). On failure of the kernel it is listed all the
  /// same, and the error returned. Places that are known and not described stay known.
  Status quarantine(const Description& description, const std::string& reason);
  /// The same for whatever is enforced in this network namespace, until its source enrols it again.
  void quarantine_network(const std::shared_ptr<const kernel::Netns>& network,
                          const std::string& reason);
  /// Lists a container that nothing in the kernel tells apart; `reason` is shown. It has no
  /// cgroup_path here.
  void list_unenforced(const Description& description, const std::string& reason);
  /// The cgroup is gone. Where a directory with the same inode number is still there, nothing
  /// happens: the news was of an older one.
  void end_cgroup(const std::string& cgroup_path);
  /// The container is gone. While processes remain in its cgroup they are quarantined, until
  /// end_cgroup().
  void end_container(const std::string& container_id);
  /// No workload although its cgroup lives on ([[unit]] entry removed, a container that is none of
  /// ours): forgets it where it was known, clears the xattrs, and opens what the kernel has
  /// quarantined at its birth.
  void release(const std::string& cgroup_path);
  /// Looks at the capabilities of the workload's process again and where its processes are (after
  /// trirun's exec, before a listing), and whether its labels can be proved; cheap: some small
  /// files are read.
  void examine(const std::string& cgroup_path);
  /// Compares the network namespaces that the workload's processes are in with those that it is
  /// enforced in. All in another: it is enforced there too, as in enrol(), in kMostPlaces at most.
  /// Some in another that leads somewhere: it is in quarantine, until none is or all are. Looks at
  /// `limit` processes at most, and takes them off it; a survey goes on where it ended, and only a
  /// complete one ends a quarantine.
  /// Returns whether anything changed. Where containers are is their source's to know.
  bool check_networks(const std::string& cgroup_path, std::size_t& limit);
  bool check_networks(NetworkSurvey& survey, std::size_t& limit);
  static constexpr std::size_t kMostPlaces = 4;
  /// Until it is tried again to enforce one where its processes are, where the kernel has refused.
  std::chrono::milliseconds follow_again = std::chrono::seconds(10);

  [[nodiscard]] const Workload* find_cgroup(const std::string& cgroup_path) const;
  /// The workload that a process in `cgroup_path` belongs to: of that cgroup or of its nearest
  /// ancestor that is one.
  [[nodiscard]] const Workload* find_enclosing(const std::string& cgroup_path) const;
  [[nodiscard]] const Workload* find_container(const std::string& container_id) const;
  [[nodiscard]] const Workload* find_name(const std::string& name) const;
  [[nodiscard]] const Workload* find_number(policy::Number number) const;
  /// In name order.
  [[nodiscard]] std::vector<const Workload*> all() const;
  /// Those that come after this name, `count` of them at most.
  [[nodiscard]] std::vector<const Workload*> after(const std::string& name,
                                                   std::size_t count) const;
  [[nodiscard]] std::size_t size() const { return by_key_.size(); }

  /// Whether labels can be proved to peers elsewhere; an error is a warning of the workloads that
  /// have them. Without it all can.
  std::function<Status(const policy::LabelSet&)> provable;
  /// Called after each change of a workload; `ended` true when it left the registry.
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
  Status extend(Workload& known, std::vector<Place> places, bool settled);
  Status follow(Workload workload, std::uint64_t inode, std::uint32_t pid);
  Status follow_strayed(const Workload& workload, std::uint64_t inode, std::uint32_t pid);
  static void tell_followed(const Workload& workload);
  [[nodiscard]] static bool has_strayed(const Workload& workload);
  Status stray(const Workload& workload, std::uint32_t pid, const std::string& why);
  Status enforce(Workload workload, policy::Number number, bool settled);
  Status shut(Workload workload, const std::string& reason);
  void take_over(Workload workload);
  static void tell_left(const Workload& workload);
  void end(const std::string& key);
  void forget_record(const std::string& cgroup_path) const;
  void store(Workload workload);
  void forget(const std::string& key);

  const kernel::CgroupTree& tree_;
  Enforcement& enforcement_;
  policy::LabelSet host_labels_;
  std::map<std::string, Workload>
      by_key_;  // key: cgroup path, or container id where there is no cgroup
  std::map<std::string, std::string> key_by_container_;
  std::map<std::string, std::string> key_by_name_;
  std::map<policy::Number, std::string> key_by_number_;
  /// By key: when the kernel last refused to enforce one where its processes are.
  std::map<std::string, std::chrono::steady_clock::time_point> refused_;
};

/// Takes the records of this network namespace's daemon, and the multicast filter, off every
/// cgroup. Returns how many had a record.
std::size_t clear_records(const kernel::CgroupTree& tree);

}  // namespace trireme::workload
