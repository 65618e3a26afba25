// SPDX-License-Identifier: Apache-2.0
// Who is a workload here: cgroups enrolled, quarantined and given up.
#include "enforcer_change.hpp"
#include "trireme/enforcer/flow_label.hpp"

namespace trireme::enforcer {

using policy::Number;

/// A cgroup without a process has no sockets (a container's at its birth), but for a .socket
/// unit's.
void Enforcer::note_unsettled(const workload::CgroupRef& cgroup) {
  if (cgroup.whole_network) {
    all_unsettled_ = true;
  } else if (!cgroup.path.empty() && (cgroup.lone_sockets || tree_.populated(cgroup.path))) {
    unsettled_.push_back(cgroup.path);
  }
}

void Enforcer::remember(std::uint64_t cgroup_id, Member member) {
  levels_[member.level]++;
  members_[cgroup_id] = std::move(member);
}

/// Whose the sockets are that no member has, where this namespace is not our own.
void Enforcer::note_owner(const workload::CgroupRef& cgroup) {
  unowned_ = !cgroup.whole_network && (members_.empty() ? cgroup.unowned : unowned_);
}

void Enforcer::forget(std::uint64_t cgroup_id) {
  const auto member = members_.find(cgroup_id);
  if (member == members_.end()) {
    return;
  }
  const auto level = levels_.find(member->second.level);
  if (--level->second == 0) {
    levels_.erase(level);
  }
  members_.erase(member);
}

Status Enforcer::check_level(const workload::CgroupRef& cgroup) const {
  if (cgroup.whole_network) {
    return layout_.owned ? Status{}
                         : fail("nobody can have the whole network namespace of this host");
  }
  if (cgroup.level < 1 || cgroup.level > kMaxLevel) {
    return fail("the cgroup is " + std::to_string(cgroup.level) +
                " levels deep; trireme can enforce 1 to " + std::to_string(kMaxLevel));
  }
  return {};
}

/// The last enforcement point to leave a number tells of its end.
void Enforcer::leave(Number number) {
  const bool is_last = common_.numbers.give_back(number);
  if (common_.on_leave) {
    common_.on_leave(layout_.point, number, is_last);
  }
}

Result<Number> Enforcer::enrol(workload::CgroupRef cgroup, const policy::LabelSet& labels,
                               Number number) {
  if (Status fits = check_level(cgroup); !fits) {
    return tl::unexpected(fits.error());
  }
  if (number == 0) {
    const auto fresh = common_.numbers.take();
    if (!fresh) {
      return fail("all 16 million workload numbers are in use");
    }
    number = *fresh;
  } else if (!common_.numbers.take(number)) {
    return fail("workload number " + std::to_string(number) + " is taken or out of range");
  }
  if (common_.on_join) {
    common_.on_join(layout_.point, number, &labels);
  }
  if (Status joined = join(cgroup, labels, number); !joined) {
    return tl::unexpected(joined.error());
  }
  return number;
}

Status Enforcer::extend(workload::CgroupRef cgroup, const policy::LabelSet& labels, Number number) {
  if (Status fits = check_level(cgroup); !fits) {
    return fits;
  }
  if (const auto known = members_.find(cgroup.id);
      known != members_.end() && known->second.number == number) {
    return behind_ ? commit({}) : Status{};
  }
  if (!common_.numbers.share(number)) {
    return fail("nobody has workload number " + std::to_string(number));
  }
  if (common_.on_join) {
    common_.on_join(layout_.point, number, nullptr);
  }
  return join(cgroup, labels, number);
}

/// Replaces what the cgroup had here before. The number is taken already; on error it is left.
Status Enforcer::join(const workload::CgroupRef& cgroup, const policy::LabelSet& labels,
                      Number number) {
  const auto known = members_.find(cgroup.id);
  const std::optional<Member> before =
      known == members_.end() ? std::nullopt : std::optional(known->second);
  const bool renumber = before && before->number != kQuarantine;
  note_owner(cgroup);
  Change change;
  std::optional<policy::LabelSet> old_labels;
  if (renumber) {
    old_labels = labels_.at(before->number);
    change.deltas.push_back(compiler_.remove(before->number));
    change.unnamed.push_back(before->number);
    labels_.erase(before->number);
  }
  if (before) {
    leave_sets(change, cgroup.id, *before);
    forget(cgroup.id);
  }
  change.deltas.push_back(compiler_.add(number, labels));
  change.named.push_back(number);
  labels_[number] = labels;
  join_sets(change, cgroup, number);

  const Status committed = commit(change);
  if (!committed) {
    // The kernel kept what it had; so do we.
    compiler_.remove(number);
    labels_.erase(number);
    forget(cgroup.id);
    if (renumber) {
      compiler_.add(before->number, *old_labels);
      labels_[before->number] = *old_labels;
    }
    if (before) {
      remember(cgroup.id, *before);
    }
    leave(number);
    return committed;
  }
  if (renumber) {
    leave(before->number);
  }
  if (!before && !cgroup.settled) {
    note_unsettled(cgroup);
  }
  return {};
}

/// The cgroup's sockets, and those that are kept for it, have this number.
void Enforcer::join_sets(Change& change, const workload::CgroupRef& cgroup, Number number) {
  const std::uint32_t level =
      cgroup.id != 0 && cgroup.level >= 1 && cgroup.level <= kMaxLevel ? cgroup.level : 0;
  if (cgroup.whole_network) {
    change.owner = number;
  }
  if (level != 0) {
    change.joining.emplace_back(cgroup.id, number);
    for (const std::uint64_t former : cgroup.former) {
      change.joining.emplace_back(former, number);
    }
  }
  remember(cgroup.id, {level, number, cgroup.whole_network, cgroup.former});
}

void Enforcer::leave_sets(Change& change, std::uint64_t cgroup_id, const Member& member) {
  if (member.level != 0) {
    change.leaving.push_back(cgroup_id);
    change.leaving.insert(change.leaving.end(), member.former.begin(), member.former.end());
  }
}

Status Enforcer::quarantine(workload::CgroupRef cgroup) {
  if (Status fits = check_level(cgroup); !fits) {
    return fits;
  }
  note_owner(cgroup);
  const auto known = members_.find(cgroup.id);
  if (known != members_.end() && known->second.number == kQuarantine) {
    return behind_ ? commit({}) : Status{};
  }
  Change change;
  std::optional<Number> old;
  if (known != members_.end()) {
    old = known->second.number;
    change.deltas.push_back(compiler_.remove(*old));
    change.unnamed.push_back(*old);
    leave_sets(change, cgroup.id, known->second);
    labels_.erase(*old);
    forget(cgroup.id);
  }
  if (!cgroup.settled) {
    note_unsettled(cgroup);
  }
  join_sets(change, cgroup, kQuarantine);
  // A failed transaction leaves the model ahead of the kernel, on the closed side; the next change,
  // or repair(), brings the kernel along.
  const Status committed = commit(change);
  if (old) {
    leave(*old);
  }
  return committed;
}

void Enforcer::abandon() {
  for (const auto& [number, labels] : labels_) {
    leave(number);
  }
  labels_.clear();
  members_.clear();
  levels_.clear();
  live_ = false;
}

Status Enforcer::end(const workload::CgroupRef& cgroup, Number number) {
  const auto known = members_.find(cgroup.id);
  if (known == members_.end()) {
    return {};
  }
  if (number != 0 && known->second.number != number) {
    return fail("cgroup " + std::to_string(cgroup.id) + " has number " +
                std::to_string(known->second.number) + ", not " + std::to_string(number));
  }
  Change change;
  if (known->second.is_owner) {
    change.owner = kQuarantine;  // while the namespace lives, and with it perhaps others in it
  }
  leave_sets(change, cgroup.id, known->second);
  const Number old = known->second.number;
  if (old != kQuarantine) {
    change.deltas.push_back(compiler_.remove(known->second.number));
    change.unnamed.push_back(known->second.number);
    labels_.erase(known->second.number);
  }
  forget(cgroup.id);
  const Status committed = commit(change);
  if (old != kQuarantine) {
    leave(old);
  }
  return committed;
}

}  // namespace trireme::enforcer
