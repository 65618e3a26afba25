// SPDX-License-Identifier: Apache-2.0
// Quarantine by an operator's order. Registry::enforce() looks for an order each time, so whatever
// makes a source enroll a workload again does not end it.
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <ctime>
#include <utility>

#include "registry_key.hpp"
#include "trireme/base/log_shares.hpp"
#include "trireme/workload/registry.hpp"

namespace trireme::workload {
namespace {

constexpr std::size_t kMostHolds = 4096;

}  // namespace

bool Hold::covers(const Workload& workload) const {
  if (workload.kind != kind) {
    return false;
  }
  switch (kind) {
    case Kind::process:
      return workload.cgroup_id == cgroup_id;
    case Kind::container:
      return workload.container_id == container_id || workload.name == name;
    case Kind::unit:
      return workload.cgroup_path == cgroup_path || workload.name == name;
  }
  return false;
}

std::string Hold::text() const {
  return fmt::format("ordered by {} at {}{}{}", by, since, why.empty() ? "" : ": ", why);
}

const Hold* Registry::hold_on(const Workload& workload) const {
  const auto found =
      std::ranges::find_if(holds_, [&](const Hold& hold) { return hold.covers(workload); });
  return found == holds_.end() ? nullptr : &*found;
}

bool Registry::is_only_held(const Workload& workload) const {
  const Hold* hold = hold_on(workload);
  return hold != nullptr && workload.state == State::quarantined &&
         workload.reason.ends_with(hold->text());
}

void Registry::set_holds(std::vector<Hold> holds) {
  holds_ = std::move(holds);
}

void Registry::note_holds() const {
  if (on_holds) {
    on_holds();
  }
}

Status Registry::hold(const std::string& name, const std::string& by, const std::string& why) {
  const Workload* known = find_name(name);
  if (known == nullptr) {
    return fail("no workload is named '" + name + "'", "'trirectl workloads' lists them");
  }
  if (known->state == State::unenforced) {
    return fail(name + " cannot be quarantined, because it is not enforced: " + known->reason);
  }
  if (const Hold* hold = hold_on(*known)) {
    return fail(name + " is already quarantined: " + hold->text(),
                "'trirectl release " + name + "' ends it");
  }
  if (holds_.size() >= kMostHolds) {
    return fail("too many quarantine orders", "'trirectl status' lists them; release some");
  }
  holds_.push_back(
      {.name = known->name,
       .kind = known->kind,
       .cgroup_path = known->cgroup_path,
       .cgroup_id = known->cgroup_id,
       .container_id = known->container_id,
       .by = by,
       .why = why,
       .since = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)))});
  const std::string text = holds_.back().text();
  spdlog::warn("workload {}: quarantined, {}", name, loggable(text));
  // If it is quarantined already, that reason stays in effect, with its own end.
  const Status blocked = known->state == State::enforced ? block(*known, text) : Status{};
  note_holds();
  return blocked;
}

Status Registry::end_hold(const std::string& name, const std::string& by) {
  const Workload* live = find_name(name);
  auto ended = std::ranges::find_if(
      holds_, [&](const Hold& hold) { return live != nullptr && hold.covers(*live); });
  if (ended == holds_.end()) {
    ended = std::ranges::find(holds_, name, &Hold::name);
  }
  if (ended == holds_.end()) {
    const bool is_blocked = live != nullptr && live->state == State::quarantined;
    return fail("there is no quarantine order for '" + name + "'",
                is_blocked ? "it is quarantined for another reason: " + live->reason
                           : "'trirectl status' lists the orders");
  }
  std::vector<Workload> concerned;
  for (const auto& [key, workload] : by_key_) {
    if (ended->covers(workload) && is_only_held(workload)) {
      concerned.push_back(workload);
    }
  }
  holds_.erase(ended);
  note_holds();
  spdlog::warn("workload {}: released by {}", name, loggable(by));
  for (Workload& workload : concerned) {
    restore(std::move(workload));
  }
  return {};
}

/// Enforces policy on a workload that was only held. If that fails, it stays quarantined with the
/// reason.
void Registry::restore(Workload workload) {
  const std::string key = key_of(workload.cgroup_path, workload.container_id);
  const auto labels = with_host_labels(workload.own_labels);
  if (!labels || workload.places.empty()) {
    const std::string reason =
        labels ? "its network namespace is not known" : labels.error().message;
    std::ignore = block(std::move(workload), reason);
    return;
  }
  workload.labels = *labels;
  if (enforce(std::move(workload), 0, false)) {
    std::size_t limit = kExamined;
    std::ignore = check_networks(key, limit);
  }
}

/// An order for a process ends with it.
void Registry::end_hold_of(const Workload& workload) {
  if (workload.kind == Kind::process &&
      std::erase_if(holds_, [&](const Hold& hold) { return hold.covers(workload); }) > 0) {
    note_holds();
  }
}

/// After recover(): removes orders for processes that ended while no daemon ran.
void Registry::forget_stale_holds() {
  const auto stale = std::erase_if(holds_, [this](const Hold& hold) {
    return hold.kind == Kind::process && std::ranges::none_of(by_key_, [&](const auto& item) {
             return hold.covers(item.second);
           });
  });
  if (stale > 0) {
    note_holds();
  }
}

}  // namespace trireme::workload
