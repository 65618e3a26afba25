// SPDX-License-Identifier: Apache-2.0
// Lookups in the registry, and operations on all workloads.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>
#include <utility>

#include "record.hpp"
#include "trireme/workload/network.hpp"
#include "trireme/workload/process.hpp"
#include "trireme/workload/registry.hpp"

namespace trireme::workload {
namespace {

std::string last_part(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

/// Opens the network namespaces that a restored workload was in. Namespaces that none of its
/// processes is in any more are dropped. A container whose first namespace is dropped, or any other
/// workload with none left, is quarantined until its source reports it. `complete`: nothing else
/// was missing, that is, it was enforced or only held.
void find_places_again(const kernel::CgroupTree& tree, Workload& workload,
                       const std::vector<Record::Place>& places, bool complete) {
  bool lost = false;
  for (const Record::Place& place : places) {
    const auto network =
        place.network == 0 ? nullptr : find_network(tree, workload.cgroup_path, place.network);
    if (network || place.network == 0) {
      workload.places.push_back({network, place.whole_network});
    } else if (&place == &places.front()) {
      lost = workload.kind == Kind::container;
    }
  }
  if ((lost || workload.places.empty()) && complete) {
    workload.state = State::quarantined;
    workload.reason = "none of its processes is in its former network namespace";
  }
}

template <typename Index, typename Key>
const Workload* look_up(const std::map<std::string, Workload>& workloads, const Index& index,
                        const Key& key) {
  const auto found = index.find(key);
  return found == index.end() ? nullptr : &workloads.at(found->second);
}

}  // namespace

Result<std::size_t> Registry::recover() {
  std::vector<Workload> numbered;
  std::vector<Workload> others;
  std::set<policy::Number> taken;
  for (const std::string& path : find_records(tree_)) {
    const auto id = tree_.id(path);
    if (!id) {
      continue;  // removed since the records were listed
    }
    auto record = read_record(tree_, path);
    if (record && !record->has_value()) {
      continue;
    }
    Workload workload;
    workload.cgroup_path = path;
    if (record) {
      workload = std::move((*record)->workload);
      workload.cgroup_id = *id;
      recall_hold(workload);
      find_places_again(tree_, workload, (*record)->places,
                        workload.state == State::enforced || is_only_held(workload));
    } else {
      workload.reason = record.error().message;
      workload.name = last_part(path);
    }
    workload.cgroup_id = *id;
    workload.name = free_name(workload.name, workload.container_id, path);
    // The same number on two cgroups would merge two identities, so only the first keeps it.
    const bool keeps = workload.state == State::enforced && workload.number != 0 &&
                       taken.insert(workload.number).second;
    workload.number = keeps ? workload.number : 0;
    (keeps ? numbered : others).push_back(std::move(workload));
  }
  const std::size_t count = numbered.size() + others.size();
  // Restore recorded numbers first; a new number could otherwise be one of a later record.
  for (auto* group : {&numbered, &others}) {
    std::ranges::for_each(*group, [this](Workload& workload) { take_over(std::move(workload)); });
  }
  forget_stale_holds();
  return count;
}

void Registry::take_over(Workload workload) {
  const std::vector<std::uint32_t> pids = tree_.pids(workload.cgroup_path);
  workload.pid = pids.empty() ? 0 : pids.front();
  workload.started = start_time(workload.pid).value_or(0);
  workload.name = free_name(workload.name, workload.container_id, workload.cgroup_path);
  const policy::Number number = std::exchange(workload.number, 0);
  const auto labels = with_host_labels(workload.own_labels);
  workload.labels = labels.value_or(workload.own_labels);
  Status done;
  if (workload.state != State::enforced) {
    const std::string reason = workload.reason;
    done = block(std::move(workload), reason);
  } else if (!labels) {
    done = block(std::move(workload), labels.error().message);
  } else {
    done = enforce(std::move(workload), number, true);
  }
  if (!done) {
    spdlog::error("cannot restore a workload of the last run: {}", done.error().text());
  }
}

void Registry::set_host_labels(const policy::LabelSet& labels) {
  if (labels == host_labels_) {
    return;
  }
  host_labels_ = labels;
  std::vector<Workload> known;
  std::ranges::transform(by_key_, std::back_inserter(known),
                         [](const auto& item) { return item.second; });
  for (Workload& workload : known) {
    const auto merged = with_host_labels(workload.own_labels);
    workload.labels = merged.value_or(workload.own_labels);
    if (workload.state != State::enforced) {
      store(std::move(workload));
      continue;
    }
    const std::string name = workload.name;
    const Status done = merged ? enforce(std::move(workload), 0, true)
                               : block(std::move(workload), merged.error().message);
    if (!done) {
      spdlog::error("workload {}: cannot apply the new host labels: {}", name, done.error().text());
    }
  }
}

const Workload* Registry::find_cgroup(const std::string& cgroup_path) const {
  const Workload* found = find_key(cgroup_path);
  return found == nullptr || found->cgroup_path.empty() ? nullptr : found;
}

const Workload* Registry::find_cgroup_id(std::uint64_t cgroup_id) const {
  const auto found = std::ranges::find_if(
      by_key_, [cgroup_id](const auto& item) { return item.second.cgroup_id == cgroup_id; });
  return found == by_key_.end() || cgroup_id == 0 ? nullptr : &found->second;
}

const Workload* Registry::find_key(const std::string& key) const {
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? nullptr : &found->second;
}

const Workload* Registry::find_enclosing(const std::string& cgroup_path) const {
  for (std::string path = cgroup_path; !path.empty(); path.resize(path.rfind('/'))) {
    if (const Workload* workload = find_cgroup(path)) {
      return workload;
    }
  }
  return nullptr;
}

const Workload* Registry::find_container(const std::string& container_id) const {
  return look_up(by_key_, key_by_container_, container_id);
}

const Workload* Registry::find_name(const std::string& name) const {
  return look_up(by_key_, key_by_name_, name);
}

const Workload* Registry::find_number(policy::Number number) const {
  return look_up(by_key_, key_by_number_, number);
}

std::vector<const Workload*> Registry::all() const {
  std::vector<const Workload*> workloads;
  workloads.reserve(key_by_name_.size());
  std::ranges::transform(key_by_name_, std::back_inserter(workloads),
                         [this](const auto& item) { return &by_key_.at(item.second); });
  return workloads;
}

std::vector<const Workload*> Registry::after(const std::string& name, std::size_t count) const {
  std::vector<const Workload*> workloads;
  for (auto next = key_by_name_.upper_bound(name);
       next != key_by_name_.end() && workloads.size() < count; ++next) {
    workloads.push_back(&by_key_.at(next->second));
  }
  return workloads;
}

std::vector<Workload> recorded(const kernel::CgroupTree& tree) {
  std::vector<Workload> found;
  for (const std::string& path : find_records(tree)) {
    auto record = read_record(tree, path);
    if (record && record->has_value()) {
      found.push_back(std::move((*record)->workload));
    }
  }
  return found;
}

std::size_t clear_records(const kernel::CgroupTree& tree) {
  std::size_t cleared = 0;
  for (const std::string& path : find_records(tree)) {
    const auto record = read_record(tree, path);
    if (record && !record->has_value()) {
      continue;  // of another network namespace's daemon
    }
    if (const Status done = clear_record(tree, path); !done) {
      spdlog::warn("{}", done.error().text());
    }
    ++cleared;
  }
  return cleared;
}

}  // namespace trireme::workload
