// SPDX-License-Identifier: Apache-2.0
#include "trireme/workload/registry.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "record.hpp"
#include "registry_key.hpp"
#include "registry_reference.hpp"
#include "trireme/base/log_shares.hpp"
#include "trireme/workload/network.hpp"
#include "trireme/workload/process.hpp"

namespace trireme::workload {
namespace {

/// The described places, followed by the known ones that are not among them.
std::vector<Place> united(const std::vector<Place>& described, const std::vector<Place>& known) {
  std::vector<Place> places = described;
  std::ranges::copy_if(known, std::back_inserter(places), [&](const Place& place) {
    return std::ranges::none_of(described, [&](const Place& other) {
      return is_same_network(place.network, other.network);
    });
  });
  return places;
}

/// True if a network namespace is in both lists with different values of whole_network.
bool differ_in_ownership(const std::vector<Place>& some, const std::vector<Place>& others) {
  return std::ranges::any_of(some, [&](const Place& place) {
    return std::ranges::any_of(others, [&](const Place& other) {
      return is_same_network(place.network, other.network) &&
             place.whole_network != other.whole_network;
    });
  });
}

Workload from(const Description& description, std::uint64_t id) {
  Workload workload;
  workload.name = description.name;
  workload.kind = description.kind;
  workload.own_labels = description.labels;
  workload.labels = description.labels;
  workload.cgroup_path = description.cgroup_path;
  workload.cgroup_id = id;
  workload.pid = description.pid;
  workload.started = start_time(description.pid).value_or(0);
  workload.container_id = description.container_id;
  workload.warnings = description.warnings;
  workload.published = description.published;
  workload.places = description.places;
  workload.former = description.former;
  return workload;
}

}  // namespace

Registry::Registry(const kernel::CgroupTree& tree, Enforcement& enforcement)
    : tree_(tree), enforcement_(enforcement) {}

/// Updates the warnings that can change without a change of the workload.
void Registry::look_at(Workload& workload) const {
  std::erase_if(workload.warnings, [](const std::string& warning) {
    return warning.starts_with("CAP_") || warning.starts_with(kLocalOnly);
  });
  if (workload.pid != 0) {
    const kernel::Netns* network =
        workload.places.empty() ? nullptr : workload.places.front().network.get();
    std::ranges::move(capability_warnings(workload.pid, network),
                      std::back_inserter(workload.warnings));
  }
  if (const Status proved = provable ? provable(workload.labels) : Status{};
      !proved && workload.state == State::enforced) {
    workload.warnings.push_back(kLocalOnly + proved.error().text());
  }
}

Result<policy::LabelSet> Registry::with_host_labels(const policy::LabelSet& own) const {
  policy::LabelSet labels = own;
  if (auto added = labels.add_host_labels(host_labels_); !added) {
    return tl::unexpected(added.error());
  }
  return labels;
}

std::string Registry::free_name(const std::string& wanted, const std::string& container_id,
                                const std::string& key) const {
  const auto is_free = [&](const std::string& name) {
    const auto owner = key_by_name_.find(name);
    return owner == key_by_name_.end() || owner->second == key;
  };
  if (is_free(wanted)) {
    return wanted;
  }
  if (const std::string name = wanted + "-" + container_id.substr(0, kNameDigits);
      !container_id.empty() && is_free(name)) {
    return name;
  }
  for (unsigned i = 2;; ++i) {
    if (const std::string name = wanted + "-" + std::to_string(i); is_free(name)) {
      return name;
    }
  }
}

Result<std::uint64_t> Registry::id_of(const Description& description) const {
  if (!description.cgroup_path.empty()) {
    return tree_.id(description.cgroup_path);
  }
  if (description.container_id.empty() || description.places.size() != 1 ||
      !description.places.front().network || !description.places.front().whole_network) {
    return fail(
        "it has neither a cgroup nor a network namespace of its own, so its traffic cannot be "
        "identified");
  }
  return 0;
}

Status Registry::enrol(const Description& description) {
  const auto id = id_of(description);
  if (!id) {
    return tl::unexpected(id.error());
  }
  if (description.places.empty()) {
    return fail("its network namespace is not known");
  }
  supersede(description, *id);
  const auto labels = with_host_labels(description.labels);
  const std::string key = key_of(description.cgroup_path, description.container_id);
  const Workload* known = find_key(key);
  const std::vector<Place> before = known == nullptr ? std::vector<Place>() : known->places;
  if (known != nullptr && known->state == State::enforced &&
      differ_in_ownership(description.places, before)) {
    std::ignore = block(*known, "the ownership of its network namespace has changed");
    known = find_key(key);
  }
  const std::vector<Place> places = united(description.places, before);
  Workload workload = from(description, *id);
  workload.name = free_name(description.name, description.container_id, key);
  const bool is_held = hold_on(workload) != nullptr;
  if (known != nullptr && labels && !is_held && known->state == State::enforced &&
      known->kind == description.kind && known->labels == *labels &&
      known->own_labels == description.labels &&
      std::ranges::includes(known->former, description.former)) {
    return refresh(*known, description, places);
  }
  workload.places = places;
  if (known != nullptr) {
    workload.former.clear();
    std::ranges::set_union(known->former, description.former, std::back_inserter(workload.former));
  }
  if (description.kind == Kind::process && workload.name != description.name) {
    const std::string reason = "another workload is named " + description.name;
    std::ignore = block(std::move(workload), reason);
    return fail(reason);
  }
  if (!labels) {
    std::ignore = block(std::move(workload), labels.error().message);
    return tl::unexpected(labels.error());
  }
  workload.labels = *labels;
  const bool elsewhere = known != nullptr && is_elsewhere(*known);
  const std::string reason = elsewhere ? known->reason : "";
  // Quarantine because of its processes' network namespaces ends only through check_networks().
  if (Status done = elsewhere ? block(std::move(workload), reason)
                              : enforce(std::move(workload), 0, description.has_no_old_flows);
      !done) {
    return done;
  }
  std::size_t limit = kExamined;
  std::ignore = check_networks(key, limit);
  const Workload* enrolled = find_key(key);
  return enrolled != nullptr && (enrolled->state == State::enforced || is_held)
             ? Status{}
             : fail(enrolled == nullptr ? "it has ended" : enrolled->reason);
}

/// Updates a workload whose identity and cgroup are unchanged. The kernel is changed only for new
/// network namespaces.
Status Registry::refresh(Workload known, const Description& description,
                         std::vector<Place> places) {
  const Workload before = known;
  const bool same_places =
      std::ranges::equal(known.places, places, [](const Place& one, const Place& other) {
        return is_same_network(one.network, other.network);
      });
  if (Status there = extend(known, std::move(places), description.has_no_old_flows); !there) {
    std::ignore = block(std::move(known), there.error().message);
    return there;
  }
  known.name = free_name(description.name, description.container_id,
                         key_of(known.cgroup_path, known.container_id));
  known.container_id = description.container_id;
  if (description.pid != 0) {
    known.pid = description.pid;
    known.started = start_time(description.pid).value_or(0);
  }
  known.warnings = description.warnings;
  known.published = description.published;
  look_at(known);
  if (known.name != before.name || known.container_id != before.container_id || !same_places) {
    if (auto written = write_record(tree_, known); !written) {
      std::ignore = block(std::move(known), written.error().message);
      return written;
    }
  }
  if (known.name != before.name || known.container_id != before.container_id || !same_places ||
      known.pid != before.pid || known.warnings != before.warnings ||
      known.published != before.published) {
    store(std::move(known));
  }
  return {};
}

/// Sets the workload's places and enforces it, with its current number, in those that are new.
Status Registry::extend(Workload& known, std::vector<Place> places, bool has_no_old_flows) {
  const Workload before = known;
  known.places = std::move(places);
  for (const Place& place : known.places) {
    if (before.is_in(place.network)) {
      continue;
    }
    if (Status there = enforcement_.extend(reference(known, place, has_no_old_flows), known.labels,
                                           known.number);
        !there) {
      return there;
    }
  }
  return {};
}

/// Ends workloads that the description replaces: that of an older directory with the same path, and
/// that of an earlier start of the same container.
void Registry::supersede(const Description& description, std::uint64_t id) {
  if (const Workload* older = find_cgroup(description.cgroup_path);
      older != nullptr && older->cgroup_id != id) {
    end(description.cgroup_path);
  }
  if (const Workload* older = find_container(description.container_id);
      !description.container_id.empty() && older != nullptr &&
      (older->cgroup_path != description.cgroup_path ||
       (description.cgroup_path.empty() && !older->is_in(description.places.front().network)))) {
    end_container(description.container_id);
  }
}

Status Registry::quarantine(const Description& description, const std::string& reason) {
  const auto id = id_of(description);
  if (!id) {
    return tl::unexpected(id.error());
  }
  supersede(description, *id);
  const std::string key = key_of(description.cgroup_path, description.container_id);
  Workload workload = from(description, *id);
  workload.labels = with_host_labels(description.labels).value_or(description.labels);
  workload.name = free_name(description.name, description.container_id, key);
  if (const Workload* known = find_key(key)) {
    workload.places = united(workload.places, known->places);
  }
  return block(std::move(workload), reason);
}

void Registry::quarantine_network(const std::shared_ptr<const kernel::Netns>& network,
                                  const std::string& reason) {
  std::vector<Workload> concerned;
  for (const auto& [key, workload] : by_key_) {
    if (workload.state == State::enforced && workload.is_in(network)) {
      concerned.push_back(workload);
    }
  }
  for (Workload& workload : concerned) {
    if (log_shares().admit("workload " + workload.name)) {
      spdlog::error("workload {}: quarantined: {}", workload.name, reason);
    }
    std::ignore = block(std::move(workload), reason);
  }
}

Status Registry::enforce(Workload workload, policy::Number number, bool has_no_old_flows) {
  if (const Hold* hold = hold_on(workload)) {
    return block(std::move(workload), hold->text());
  }
  const auto used =
      enforcement_.enrol(reference(workload, has_no_old_flows), workload.labels, number);
  if (!used) {
    std::ignore = block(std::move(workload), used.error().message);
    return tl::unexpected(used.error());
  }
  for (std::size_t i = 1; i < workload.places.size(); ++i) {
    if (Status there = enforcement_.extend(
            reference(workload, workload.places[i], has_no_old_flows), workload.labels, *used);
        !there) {
      std::ignore = block(std::move(workload), there.error().message);
      return there;
    }
  }
  workload.number = *used;
  workload.state = State::enforced;
  workload.reason.clear();
  if (auto written = write_record(tree_, workload); !written) {
    std::ignore = block(std::move(workload), written.error().message);
    return written;
  }
  look_at(workload);
  for (const std::string& warning : workload.warnings) {
    if (warning.starts_with(kLocalOnly)) {
      spdlog::warn("workload {}: {}", workload.name, warning);
    }
  }
  store(std::move(workload));
  return {};
}

Status Registry::block(Workload workload, const std::string& reason) {
  const Status dropped = enforcement_.quarantine(reference(workload, false));
  if (!dropped && log_shares().admit("workload " + workload.name)) {
    spdlog::error("workload {}: cannot be quarantined: {}", workload.name, dropped.error().text());
  }
  workload.number = 0;
  workload.state = State::quarantined;
  workload.reason =
      dropped ? reason : std::string(kNotShut) + " (" + dropped.error().message + "): " + reason;
  if (auto written = write_record(tree_, workload); !written) {
    // Without the record, a restarted daemon does not know of this quarantine until the workload's
    // source requests it again.
    if (log_shares().admit("workload " + workload.name)) {
      spdlog::warn("workload {}: {}", workload.name, written.error().text());
    }
  }
  store(std::move(workload));
  return dropped;
}

void Registry::list_unenforced(const Description& description, const std::string& reason) {
  if (const Workload* older = find_container(description.container_id);
      older != nullptr && older->state != State::unenforced) {
    end_container(description.container_id);
  }
  Workload workload = from(description, 0);
  workload.cgroup_path.clear();
  workload.labels = with_host_labels(description.labels).value_or(description.labels);
  workload.name = free_name(description.name, description.container_id, description.container_id);
  workload.state = State::unenforced;
  workload.reason = reason;
  look_at(workload);
  store(std::move(workload));
}

void Registry::examine(const std::string& cgroup_path) {
  std::size_t limit = kExamined;
  std::ignore = check_networks(cgroup_path, limit);
  const Workload* known = find_cgroup(cgroup_path);
  if (known == nullptr) {
    return;
  }
  Workload workload = *known;
  look_at(workload);
  if (workload.warnings != known->warnings) {
    store(std::move(workload));
  }
}

void Registry::store(Workload workload) {
  const std::string key = key_of(workload.cgroup_path, workload.container_id);
  if (const auto older = by_key_.find(key); older != by_key_.end()) {
    key_by_container_.erase(older->second.container_id);
    key_by_name_.erase(older->second.name);
    key_by_number_.erase(older->second.number);
  }
  if (!workload.container_id.empty()) {
    key_by_container_[workload.container_id] = key;
  }
  if (workload.number != 0) {
    key_by_number_[workload.number] = key;
  }
  key_by_name_[workload.name] = key;
  const Workload& stored = by_key_.insert_or_assign(key, std::move(workload)).first->second;
  if (on_change) {
    on_change(stored, false);
  }
}

void Registry::forget(const std::string& key) {
  const auto node = by_key_.extract(key);
  if (node.empty()) {
    return;
  }
  const Workload& workload = node.mapped();
  refused_.erase(key);
  key_by_container_.erase(workload.container_id);
  key_by_name_.erase(workload.name);
  key_by_number_.erase(workload.number);
  end_hold_of(workload);
  if (on_change) {
    on_change(workload, true);
  }
}

}  // namespace trireme::workload
