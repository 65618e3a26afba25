// SPDX-License-Identifier: Apache-2.0
// Which cgroups are workloads here: enrolling, quarantining and ending them.
#include "enforcer_change.hpp"
#include "trireme/abi/flow_label.hpp"
#include "version.hpp"

namespace trireme::enforcer {

using policy::Number;

/// A cgroup without processes (as a container's at its creation) has no sockets, except that of a
/// .socket unit.
bool Enforcer::may_have_sockets(const workload::CgroupRef& cgroup) const {
  return !cgroup.path.empty() && (cgroup.lone_sockets || tree_.populated(cgroup.path));
}

/// Schedules the cgroup's existing flows for reevaluate_new().
void Enforcer::note_old_flows(const workload::CgroupRef& cgroup) {
  if (cgroup.whole_network) {
    all_with_old_flows_ = true;
  } else if (may_have_sockets(cgroup)) {
    with_old_flows_.push_back(cgroup.path);
  }
}

void Enforcer::remember(std::uint64_t cgroup_id, Member member) {
  levels_[member.level]++;
  members_[cgroup_id] = std::move(member);
}

/// Decides who owns the sockets of no enrolled cgroup in a namespace other than the daemon's own:
/// the namespace's owner (quarantined until it is enrolled), or @host if `unowned_`.
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
    return layout_.owned ? Status{} : fail("no workload can own the network namespace of the host");
  }
  if (cgroup.level < 1 || cgroup.level > abi::kMaxLevel) {
    return fail("the cgroup is at level " + std::to_string(cgroup.level) +
                " of the cgroup tree; trireme enforces levels 1 to " +
                std::to_string(abi::kMaxLevel));
  }
  return {};
}

/// Gives up one use of the number at this point. `is_last` is true when no point uses it any more.
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
    return fail("workload number " + std::to_string(number) + " is in use or out of range");
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
    return fail("workload number " + std::to_string(number) + " is not in use");
  }
  if (common_.on_join) {
    common_.on_join(layout_.point, number, nullptr);
  }
  return join(cgroup, labels, number);
}

/// Replaces the cgroup's previous membership here. The caller has taken the number; on error it is
/// given back.
Status Enforcer::join(const workload::CgroupRef& cgroup, const policy::LabelSet& labels,
                      Number number) {
  note_owner(cgroup);
  Change change;
  const Former former = withdraw(change, cgroup.id);
  change.deltas.push_back(version_->compiler.add(number, labels));
  change.named.push_back(number);
  labels_[number] = labels;
  join_sets(change, cgroup, number);

  if (const Status committed = commit(change); !committed) {
    // The kernel still has the old state: restore it in the model.
    version_->compiler.remove(number);
    labels_.erase(number);
    forget(cgroup.id);
    restore(cgroup.id, former);
    leave(number);
    return committed;
  }
  if (former.labels) {
    leave(former.member->number);
  }
  const bool may_have_old_flows = former.member ? former.member->may_have_old_flows : true;
  if (may_have_old_flows && !cgroup.has_no_old_flows) {
    note_old_flows(cgroup);
  }
  return {};
}

/// Removes the cgroup's membership from the model, and from the kernel by `change`.
Enforcer::Former Enforcer::withdraw(Change& change, std::uint64_t cgroup_id) {
  const auto known = members_.find(cgroup_id);
  if (known == members_.end()) {
    return {};
  }
  Former former{.member = known->second, .labels = std::nullopt};
  const Number number = former.member->number;
  if (number != abi::kQuarantine) {
    former.labels = labels_[number];
    labels_.erase(number);
    change.deltas.push_back(version_->compiler.remove(number));
    change.unnamed.push_back(number);
  }
  leave_sets(change, cgroup_id, *former.member);
  forget(cgroup_id);
  return former;
}

/// Undoes withdraw() in the model.
void Enforcer::restore(std::uint64_t cgroup_id, const Former& former) {
  if (former.labels) {
    version_->compiler.add(former.member->number, *former.labels);
    labels_[former.member->number] = *former.labels;
  }
  if (former.member) {
    remember(cgroup_id, *former.member);
  }
}

/// Gives the number to the cgroup's sockets and to the sockets of former cgroups that are kept for
/// it.
void Enforcer::join_sets(Change& change, const workload::CgroupRef& cgroup, Number number) {
  const std::uint32_t level =
      cgroup.id != 0 && cgroup.level >= 1 && cgroup.level <= abi::kMaxLevel ? cgroup.level : 0;
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
  if (known != members_.end() && known->second.number == abi::kQuarantine) {
    return behind_ ? commit({}) : Status{};
  }
  Change change;
  const Former former = withdraw(change, cgroup.id);
  if (!cgroup.has_no_old_flows) {
    note_old_flows(cgroup);
  }
  join_sets(change, cgroup, abi::kQuarantine);
  members_.at(cgroup.id).may_have_old_flows = !cgroup.has_no_old_flows;
  // If the transaction fails, the model is ahead of the kernel and stricter. The next change, or
  // repair(), updates the kernel.
  const Status committed = commit(change);
  if (former.labels) {
    leave(former.member->number);
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
    change.owner = abi::kQuarantine;  // other workloads in the namespace may keep it alive
  }
  const Former former = withdraw(change, cgroup.id);
  const Status committed = commit(change);
  if (former.labels) {
    leave(former.member->number);
  }
  if (!cgroup.whole_network && may_have_sockets(cgroup)) {
    released_.push_back(cgroup.path);  // with its processes: others may no longer talk to it
  }
  return committed;
}

}  // namespace trireme::enforcer
