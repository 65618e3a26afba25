// SPDX-License-Identifier: Apache-2.0
// Workloads whose processes are in another network namespace than the one that is enforced.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "record.hpp"
#include "registry_key.hpp"
#include "trireme/base/log_shares.hpp"
#include "trireme/workload/network.hpp"
#include "trireme/workload/registry.hpp"

namespace trireme::workload {
namespace {

std::string elsewhere_reason(std::uint32_t pid, const std::string& why) {
  return std::string(kElsewhere) + ": " + std::to_string(pid) +
         (why.empty() ? "" : " (" + why + ")");
}

}  // namespace

bool Registry::check_networks(const std::string& cgroup_path, std::size_t& limit) {
  NetworkSurvey survey(cgroup_path);
  return check_networks(survey, limit);
}

bool Registry::check_networks(NetworkSurvey& survey, std::size_t& limit) {
  const Workload* known = find_cgroup(survey.cgroup());
  if (known == nullptr || known->kind == Kind::container || known->places.empty()) {
    return false;
  }
  const bool elsewhere = is_elsewhere(*known);
  if (known->state != State::enforced && !elsewhere) {
    survey = NetworkSurvey(survey.cgroup());  // results from before a quarantine are obsolete
    return false;
  }
  survey.go_on(tree_, limit);
  auto networks = survey.found();
  const std::size_t seen = networks.size();
  for (const Place& place : known->places) {
    networks.erase(place.network ? place.network->inode() : own_network());
  }
  const bool at_home = networks.size() < seen;
  // Ignore namespaces that packets cannot leave: traffic there passes only lo, where the gate
  // decides.
  bool has_ended = false;  // a process has ended; the next survey finds others in its namespace
  std::erase_if(networks, [&has_ended](const auto& network) {
    const auto held = hold_network(network.second, network.first);
    if (!held) {
      has_ended = true;
      return true;
    }
    Result<bool> out = false;
    const Status entered = held->within([&out] { out = kernel::leads_out(); });
    return entered && out && !*out;
  });
  const bool is_all = survey.is_complete() && !has_ended;
  if (networks.empty()) {
    if (!elsewhere || !is_all) {
      return false;
    }
    if (log_shares().admit("workload " + known->name)) {
      spdlog::info("workload {}: all its processes are in enforced network namespaces again",
                   known->name);
    }
    return enforce(*known, 0, false).has_value();
  }
  const auto& [inode, pid] = *networks.begin();
  if (at_home || networks.size() > 1) {
    return block_elsewhere(*known, pid, "").has_value();
  }
  if (known->places.size() >= kMostPlaces) {
    return block_elsewhere(*known, pid,
                           "the workload is already in the maximum number of network namespaces")
        .has_value();
  }
  if (!elsewhere) {
    return follow(*known, inode, pid).has_value();
  }
  return is_all && follow_elsewhere(*known, inode, pid).has_value();
}

bool Registry::is_elsewhere(const Workload& workload) {
  return workload.state == State::quarantined && workload.reason.starts_with(kElsewhere);
}

/// Enforces the workload additionally in the network namespace that all of its processes are in.
Status Registry::follow(Workload workload, std::uint64_t inode, std::uint32_t pid) {
  const auto network = hold_network(pid, inode);
  if (!network) {
    return fail("the process has exited");
  }
  const Workload before = workload;
  std::vector<Place> places = workload.places;
  places.push_back({network});
  Status there = extend(workload, std::move(places), false);
  there = there ? write_record(tree_, workload) : there;
  if (!there) {
    std::ignore = block_elsewhere(before, pid, there.error().message);
    return {};
  }
  log_followed(before);
  store(std::move(workload));
  return {};
}

/// Like follow(), for a workload that is quarantined because only some of its processes were in the
/// other network namespace, or because the kernel refused to enforce it there. If the kernel
/// refuses again, the next attempt is made after follow_again.
Status Registry::follow_elsewhere(const Workload& workload, std::uint64_t inode,
                                  std::uint32_t pid) {
  const auto now = std::chrono::steady_clock::now();
  const std::string key = key_of(workload.cgroup_path, workload.container_id);
  if (const auto refused = refused_.find(key);
      refused != refused_.end() && now < refused->second + follow_again) {
    return fail("the kernel refused it a moment ago");
  }
  const auto network = hold_network(pid, inode);
  if (!network) {
    return fail("the process has exited");
  }
  Workload there = workload;
  there.places.push_back({network});
  const Workload before = workload;
  if (Status enforced = enforce(std::move(there), 0, false); !enforced) {
    refused_[key] = now;
    std::ignore = block(before, elsewhere_reason(pid, enforced.error().message));
    return enforced;
  }
  refused_.erase(key);
  log_followed(before);
  return {};
}

void Registry::log_followed(const Workload& workload) {
  if (log_shares().admit("workload " + workload.name)) {
    spdlog::info(
        "workload {}: now also enforced in the network namespace that its processes moved to",
        workload.name);
  }
}

/// Quarantines the workload because a process is in a network namespace that is not enforced.
/// Returns an error if nothing changes.
Status Registry::block_elsewhere(const Workload& workload, std::uint32_t pid,
                                 const std::string& why) {
  const std::string reason = elsewhere_reason(pid, why);
  if (is_elsewhere(workload)) {
    return fail("already reported");
  }
  if (!why.empty()) {
    refused_[key_of(workload.cgroup_path, workload.container_id)] =
        std::chrono::steady_clock::now();
  }
  if (log_shares().admit("workload " + workload.name)) {
    spdlog::error("workload {}: quarantined: {}", workload.name, reason);
  }
  std::ignore = block(workload, reason);
  return {};
}

}  // namespace trireme::workload
