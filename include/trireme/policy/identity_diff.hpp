// SPDX-License-Identifier: Apache-2.0
// What changes in who is a workload of a host, and with which labels. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "trireme/policy/seen.hpp"

namespace trireme::policy {

/// A workload, as it is or would be.
struct Resident {
  std::string key;  // of its unit, container or scope, workload or not: the path of its cgroup, or
                    // the container's id if it has no cgroup of its own
  std::string name;
  std::string kind;          // "unit", "container", "process"
  LabelSet labels;           // [host] labels included
  std::string blocked = {};  // why it is in quarantine; empty if it is not
};

struct IdentityChange {
  std::optional<Resident> before;  // absent: it becomes a workload
  std::optional<Resident> after;   // absent: it stops being a workload
  std::uint64_t live_cut = 0;      // open connections of it that end
  /// "web becomes a workload with app=web", "web is no longer a workload",
  /// "web changes from app=web to app=web,env=prod", "web would be quarantined: ..."
  [[nodiscard]] std::string text() const;
  [[nodiscard]] const std::string& name() const { return after ? after->name : before->name; }
};

/// What two lists of residents say about flows.
class IdentityDiff {
 public:
  IdentityDiff() = default;
  IdentityDiff(const std::vector<Resident>& before, const std::vector<Resident>& after);

  /// Sorted by name. A resident whose labels and quarantine are equal in both lists has none.
  [[nodiscard]] const std::vector<IdentityChange>& changes() const { return changes_; }
  [[nodiscard]] std::vector<IdentityChange>& changes() { return changes_; }
  [[nodiscard]] bool empty() const { return changes_.empty(); }
  /// The label sets in `after` that the residents would have, without duplicates.
  [[nodiscard]] const std::vector<LabelSet>& labels_after() const { return labels_after_; }

  struct Moved {
    SeenFlow flow;                     // with the ends as they would be
    std::vector<std::size_t> because;  // the changes (indices) that concern its ends
    std::string blocked;               // why an end would be in quarantine
    bool is_own = false;               // both ends would be of one workload
  };
  /// The flow after the changes. The workloads of its ends are found by name, other processes of
  /// this host by cgroup.
  [[nodiscard]] Moved apply(const SeenFlow& flow) const;

 private:
  [[nodiscard]] SeenEnd moved(const SeenEnd& end, bool is_local, Moved& result) const;

  std::vector<IdentityChange> changes_;
  std::vector<LabelSet> labels_after_;
  std::map<std::string, std::size_t> by_name_;  // of those before the change; index of the change
  std::map<std::string, std::size_t> by_key_;
};

}  // namespace trireme::policy
