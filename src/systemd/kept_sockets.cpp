// SPDX-License-Identifier: Apache-2.0
// Sockets that systemd keeps for a unit from one run to the next. They were created in a cgroup
// that no longer exists.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <utility>

#include "trireme/kernel/sockets.hpp"
#include "trireme/systemd/socket_holders.hpp"
#include "trireme/systemd/units.hpp"
#include "trireme/workload/network.hpp"
#include "unit_name.hpp"

namespace trireme::systemd {
namespace {

constexpr std::size_t kMostFormer = 1024;
constexpr std::size_t kMostRuns = 64;  // of one unit

/// Inodes of the sockets of the current network namespace that were created in the cgroup and that
/// a process still holds.
Result<std::set<std::uint32_t>> sockets_of_cgroup(std::uint64_t cgroup_id) {
  auto table = kernel::SocketTable::open();
  const auto found = table ? table->of_cgroup(cgroup_id) : tl::unexpected(table.error());
  if (!found) {
    return tl::unexpected(found.error());
  }
  std::set<std::uint32_t> inodes;
  for (const kernel::InetSocket& socket : *found) {
    if (socket.inode != 0) {
      inodes.insert(socket.inode);
    }
  }
  return inodes;
}

/// The same for the daemon's network namespace and for `network`. Errors: the sockets of one of
/// them cannot be listed.
Result<std::set<std::uint32_t>> sockets_of_cgroup(
    std::uint64_t cgroup_id, const std::shared_ptr<const kernel::Netns>& network) {
  auto here = sockets_of_cgroup(cgroup_id);
  if (!here || network == nullptr) {
    return here;
  }
  Result<std::set<std::uint32_t>> there;
  const Status entered = network->within([&] { there = sockets_of_cgroup(cgroup_id); });
  if (!entered || !there) {
    return tl::unexpected(entered ? there.error() : entered.error());
  }
  here->merge(*there);
  return here;
}

/// True if sockets of the workload's cgroup are still open, or if that cannot be determined.
bool leaves_sockets(const workload::Workload& workload) {
  return workload.places.empty() ||
         std::ranges::any_of(workload.places, [&workload](const workload::Place& place) {
           const auto found = sockets_of_cgroup(workload.cgroup_id, place.network);
           return !found || !found->empty();
         });
}

}  // namespace

bool UnitSource::may_keep_sockets(const std::string& unit) const {
  return std::ranges::any_of(view_.facts, [&unit](const auto& item) {
    const auto& [name, facts] = item;
    return facts.most_descriptors > 0 && (facts.id == unit || name == template_of(unit));
  });
}

/// Adds to what earlier runs left instead of replacing it, because a later run may have failed
/// before it received the sockets of an earlier one.
void UnitSource::ended(const workload::Workload& workload) {
  if (workload.kind != workload::Kind::unit ||
      !may_keep_sockets(unit_of_path(workload.cgroup_path)) ||
      tree_.id(workload.cgroup_path).value_or(0) == workload.cgroup_id) {
    return;
  }
  if (former_.size() >= kMostFormer && !former_.contains(workload.cgroup_path)) {
    former_.erase(former_.begin());
  }
  Former& former = former_[workload.cgroup_path];
  if (!(former.labels == workload.own_labels)) {
    former = {.labels = workload.own_labels, .cgroups = {}, .networks = {}};
  }
  for (const workload::Place& place : workload.places) {
    former.networks.insert(place.network ? place.network->inode() : workload::own_network());
  }
  former.cgroups.insert(workload.former.begin(), workload.former.end());
  if (former.cgroups.size() < kMostRuns && leaves_sockets(workload)) {
    former.cgroups.insert(workload.cgroup_id);
  }
}

/// A former cgroup's sockets belong to the new run only if all of these are true: PID 1 holds every
/// open socket that was created in the cgroup; there are no more of them than systemd reports to
/// keep for the unit; the unit gate has checked that no other process holds them. Otherwise they
/// stay in quarantine, also if the cgroup was in a network namespace that is no longer accessible.
UnitSource::Kept UnitSource::kept_by(const UnitFacts& facts, std::uint32_t pid,
                                     const std::string& path, const config::UnitRule& rule,
                                     const std::optional<std::set<std::uint32_t>>& alone) {
  Kept kept;
  const auto known = former_.find(path);
  const auto network = kernel::Netns::of_process(pid);
  if (known == former_.end() || !(known->second.labels == rule.labels) || !network) {
    return kept;
  }
  Former& former = known->second;
  std::set<std::uint64_t> unseen = former.networks;
  unseen.erase(workload::own_network());
  unseen.erase((*network)->inode());
  const std::set<std::uint32_t> at_init = sockets_of_process(1);
  std::erase_if(former.cgroups, [&](std::uint64_t cgroup) {
    const auto inodes = sockets_of_cgroup(cgroup, *network);
    if (!inodes || inodes->empty()) {
      return inodes && unseen.empty();
    }
    const bool may_be = unseen.empty() && inodes->size() <= facts.stored_descriptors &&
                        std::ranges::includes(at_init, *inodes);
    if (may_be && alone && std::ranges::includes(*alone, *inodes)) {
      kept.cgroups.push_back(cgroup);
    } else if (may_be && !alone) {
      kept.unsure.insert(inodes->begin(), inodes->end());
    } else {
      spdlog::warn(
          "{}: other processes may also hold sockets of an earlier run; those sockets stay in "
          "quarantine",
          facts.id);
    }
    return false;
  });
  return kept;
}

}  // namespace trireme::systemd
