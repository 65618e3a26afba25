// SPDX-License-Identifier: Apache-2.0
// Quarantine by an operator's order. Registry::enforce() looks for an order each time, so whatever
// makes a source enroll a workload again does not end it.
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <ctime>
#include <string_view>
#include <utility>

#include "registry_key.hpp"
#include "trireme/base/log_shares.hpp"
#include "trireme/workload/registry.hpp"

namespace trireme::workload {
namespace {

constexpr std::size_t kMostHolds = 4096;
constexpr std::string_view kOrderedBy = "ordered by ";
constexpr const char* kUndecided =
    "an operator has released it; waiting until it is known whether it is still a workload";

/// The name that the engine gave a container: without the suffix that it has in the registry while
/// another workload has that name.
std::string_view engine_name(std::string_view name, std::string_view container_id) {
  const std::string_view digits = container_id.substr(0, kNameDigits);
  const bool has_suffix = !digits.empty() && name.size() > digits.size() + 1 &&
                          name.ends_with(digits) && name[name.size() - digits.size() - 1] == '-';
  return has_suffix ? name.substr(0, name.size() - digits.size() - 1) : name;
}

/// An order covers a workload if they have one of these in common. `Subject`: Hold or Workload.
template <typename Subject>
std::vector<std::string> hold_keys(const Subject& subject) {
  switch (subject.kind) {
    case Kind::process:
      return {"process " + std::to_string(subject.cgroup_id)};
    case Kind::container:
      return {"container id " + subject.container_id,
              "container name " + std::string(engine_name(subject.name, subject.container_id))};
    case Kind::unit:
      return {"unit path " + subject.cgroup_path, "unit name " + subject.name};
  }
  return {};
}

}  // namespace

bool Hold::covers(const Workload& workload) const {
  const std::vector<std::string> its = hold_keys(workload);
  return std::ranges::any_of(hold_keys(*this), [&its](const std::string& key) {
    return std::ranges::find(its, key) != its.end();
  });
}

std::string Hold::text() const {
  return fmt::format("{}{} at {}{}{}", kOrderedBy, by, since, why.empty() ? "" : ": ", why);
}

std::optional<Hold> Hold::of(const Workload& workload) {
  constexpr std::string_view kAt = " at ";
  constexpr std::size_t kTimeLength = std::string_view("2026-01-31T12:00:00Z").size();
  const std::size_t begin = workload.reason.find(kOrderedBy);
  if (workload.state != State::quarantined || begin == std::string::npos ||
      (begin != 0 && !workload.reason.starts_with(kNotShut))) {
    return std::nullopt;
  }
  const std::string order = workload.reason.substr(begin + kOrderedBy.size());
  const std::size_t at = order.find(kAt);
  if (at == std::string::npos || order.size() < at + kAt.size() + kTimeLength) {
    return std::nullopt;
  }
  const std::string rest = order.substr(at + kAt.size() + kTimeLength);
  Hold hold{.name = workload.name,
            .kind = workload.kind,
            .cgroup_path = workload.cgroup_path,
            .cgroup_id = workload.cgroup_id,
            .container_id = workload.container_id,
            .by = order.substr(0, at),
            .why = rest.starts_with(": ") ? rest.substr(2) : "",
            .since = order.substr(at + kAt.size(), kTimeLength)};
  return hold.text() == workload.reason.substr(begin) ? std::optional(std::move(hold))
                                                      : std::nullopt;
}

/// Must be called after each change of holds_.
void Registry::index_holds() {
  hold_index_.clear();
  for (std::size_t i = 0; i < holds_.size(); ++i) {
    for (std::string& key : hold_keys(holds_[i])) {
      hold_index_.emplace(std::move(key), i);
    }
  }
}

const Hold* Registry::hold_on(const Workload& workload) const {
  std::size_t first = holds_.size();
  if (hold_index_.empty()) {
    return nullptr;
  }
  for (const std::string& key : hold_keys(workload)) {
    for (auto [next, end] = hold_index_.equal_range(key); next != end; ++next) {
      first = std::min(first, next->second);
    }
  }
  return first == holds_.size() ? nullptr : &holds_[first];
}

std::vector<bool> Registry::live_holds() const {
  std::vector<bool> live(holds_.size(), false);
  if (holds_.empty()) {
    return live;
  }
  for (const auto& [own, workload] : by_key_) {
    for (const std::string& key : hold_keys(workload)) {
      for (auto [next, end] = hold_index_.equal_range(key); next != end; ++next) {
        live[next->second] = true;
      }
    }
  }
  return live;
}

const Hold* Registry::hold_on(const Description& description) const {
  Workload workload;
  workload.name = description.name;
  workload.kind = description.kind;
  workload.cgroup_path = description.cgroup_path;
  workload.container_id = description.container_id;
  return hold_on(workload);
}

bool Registry::holds_any(Kind kind) const {
  return std::ranges::any_of(holds_, [kind](const Hold& hold) { return hold.kind == kind; });
}

bool Registry::is_only_held(const Workload& workload) const {
  const Hold* hold = hold_on(workload);
  return hold != nullptr && workload.state == State::quarantined &&
         workload.reason.ends_with(hold->text());
}

void Registry::set_holds(std::vector<Hold> holds) {
  holds_ = std::move(holds);
  index_holds();
}

Status Registry::note_holds() const {
  return on_holds ? on_holds() : Status{};
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
  index_holds();
  const std::string text = holds_.back().text();
  spdlog::warn("workload {}: quarantined, {}", name, loggable(text));
  // If it is quarantined already, that reason stays in effect, with its own end.
  Status blocked = known->reason.starts_with(kNotShut) ? Status(fail(known->reason)) : Status{};
  // The order also covers a container of the same name of another engine.
  std::vector<Workload> concerned;
  for (const auto& [key, workload] : by_key_) {
    if (workload.state == State::enforced && holds_.back().covers(workload)) {
      concerned.push_back(workload);
    }
  }
  for (Workload& workload : concerned) {
    const Status done = block(std::move(workload), text);
    blocked = blocked ? done : blocked;
  }
  const Status saved = note_holds();
  if (!blocked) {
    return fail("not all traffic of " + name + " is dropped yet: " + blocked.error().message,
                "the order stays; 'trirectl status' shows whether the problem remains");
  }
  return saved
             ? Status{}
             : fail(name + " is quarantined, but the order is not saved: " + saved.error().message,
                    "a reboot would end it, and so can a restart of the daemon");
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
  index_holds();
  spdlog::warn("workload {}: released by {}", name, loggable(by));
  for (Workload& workload : concerned) {
    if (workload.kind == Kind::process) {
      restore(std::move(workload));
    } else {
      std::ignore = block(std::move(workload), kUndecided);
    }
  }
  // Last: if the daemon is killed before, the saved order applies again. In the other sequence, a
  // record would remain that tells of an order which nobody could end.
  std::ignore = note_holds();
  return {};
}

/// Enforces policy on a process that was only held; nobody describes it again. If that fails, it
/// stays quarantined with the reason. What is known of a container or unit can be out of date:
/// while it was held, it may have lost its labels or its entry.
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
  if (workload.kind == Kind::process && hold_on(workload) != nullptr &&
      std::erase_if(holds_, [&](const Hold& hold) { return hold.covers(workload); }) > 0) {
    index_holds();
    std::ignore = note_holds();
  }
}

/// Adds the order that the record of a workload tells of: the earlier daemon was killed before it
/// saved the order, or could not save it.
void Registry::recall_hold(const Workload& workload) {
  auto hold = Hold::of(workload);
  if (hold && hold_on(workload) == nullptr) {
    holds_.push_back(std::move(*hold));
    index_holds();
    std::ignore = note_holds();
  }
}

/// After recover(): removes orders for processes that ended while no daemon ran.
void Registry::forget_stale_holds() {
  const std::vector<bool> live = live_holds();
  const std::size_t before = holds_.size();
  std::vector<Hold> kept;
  for (std::size_t each = 0; each < before; ++each) {
    if (holds_[each].kind != Kind::process || live[each]) {
      kept.push_back(std::move(holds_[each]));
    }
  }
  set_holds(std::move(kept));
  if (holds_.size() < before) {
    std::ignore = note_holds();
  }
}

}  // namespace trireme::workload
