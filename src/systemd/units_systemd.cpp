// SPDX-License-Identifier: Apache-2.0
// Communication with PID 1: which units exist, which sockets start them, and the drop-ins.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "trireme/systemd/units.hpp"
#include "unit_name.hpp"

namespace trireme::systemd {
namespace {

constexpr std::chrono::seconds kMostPatience(60);

}  // namespace

void UnitSource::connected() {
  look();
  for (const auto& ask : std::exchange(offline_, {})) {
    ask();
  }
}

void UnitSource::reloading(bool begins) {
  if (!begins) {
    look();
  }
}

void UnitSource::unit_new(const std::string& name) {
  // A query makes systemd load the units that it asks about; those must not cause another query.
  const bool ungated = name.ends_with(".service") && rule_for(name) != nullptr &&
                       !DropIns::cover(gated_, names_of(view_.aliases, name));
  const bool listener = name.ends_with(".socket") && rule_for(name) != nullptr;
  if (ungated || listener) {
    news_ = true;
    look_soon();
  }
}

/// Any user can make systemd load units and so cause a query. Therefore there is a pause between
/// such queries, at least as long as a query takes. Nothing waits for them: a new cgroup is matched
/// by its name immediately, and a unit gate queries its unit itself.
void UnitSource::look_soon() {
  if (looking_ || !(news_ || again_)) {
    return;
  }
  const auto now = Clock::now();
  const auto due = std::min(news_ ? looked_ + pause_ : Clock::time_point::max(),
                            again_.value_or(Clock::time_point::max()));
  if (due <= now) {
    look();
  } else {
    timer_.arm(std::chrono::ceil<std::chrono::microseconds>(due - now));
  }
}

/// Starts a query. Only one runs at a time; requests during a query cause one more after it.
void UnitSource::look() {
  if (looking_) {
    look_again_ = true;
    return;
  }
  looking_ = true;
  news_ = false;
  again_.reset();
  looked_ = Clock::now();
  std::set<std::string> held = held_services();
  if (host_ == nullptr || (host_->units.empty() && held.empty())) {
    looked(host_, UnitView{});
    return;
  }
  look_at_units(*bus_, host_, std::move(held), view_,
                [this, host = host_, alive = std::weak_ptr(alive_)](Result<UnitView> view) {
                  if (!alive.expired()) {
                    looked(host, std::move(view));
                  }
                });
}

/// The services that operators' orders cover. Their drop-ins stay when their entry is removed, so
/// that they do not run until they are found.
std::set<std::string> UnitSource::held_services() const {
  std::set<std::string> services;
  for (const workload::Hold& hold : registry_.holds()) {
    const std::string unit = unit_of_path(hold.cgroup_path);
    if (hold.kind == workload::Kind::unit && unit.ends_with(".service")) {
      services.insert(unit);
    }
  }
  return services;
}

void UnitSource::looked(const std::shared_ptr<const config::Host>& host, Result<UnitView> view) {
  const auto now = Clock::now();
  pause_ = std::max<Clock::duration>(kPause, now - looked_);
  looked_ = now;
  looking_ = false;
  // A query about earlier entries does not tell the aliases of the units that the current entries
  // name, so it could release them.
  if (host == host_) {
    take(std::move(view));
  }
  if (std::exchange(look_again_, false)) {
    look();
    return;
  }
  for (const auto& answer : std::exchange(waiting_, {})) {
    answer();
  }
  look_soon();
}

void UnitSource::take(Result<UnitView> view) {
  if (!view) {
    note_unanswered(view.error().message);
    return;
  }
  for (const config::Diagnostic& warning : view->warnings) {
    const std::string text = warning.text();
    if (std::ranges::find(view_.warnings, text, &config::Diagnostic::text) ==
        view_.warnings.end()) {
      spdlog::warn("{}", text);
    }
  }
  view_ = std::move(*view);
  std::string unanswered;
  if (!view_.unanswered.empty()) {
    const auto& [unit, error] = *view_.unanswered.begin();
    unanswered = "systemd failed to describe " + unit +
                 (view_.unanswered.size() == 1
                      ? ""
                      : " and " + std::to_string(view_.unanswered.size() - 1) + " more") +
                 ": " + error;
  }
  note_unanswered(unanswered);
  write_drop_ins();
  // Release units that no entry matches any more. Not while systemd failed to describe a unit
  // without earlier facts: its name may be an alias of any workload.
  if (is_reconfigured_ && !view_.has_unknown) {
    is_reconfigured_ = false;
    release_cgroups();
  }
  offer_cgroups();
}

/// Schedules the repetition of failed queries, after a delay that doubles up to kMostPatience.
void UnitSource::note_unanswered(const std::string& what) {
  if (what.empty()) {
    if (!unanswered_.empty()) {
      spdlog::info("[[unit]]: systemd answers again");
    }
    patience_ = kPause;
  } else {
    if (unanswered_ != what) {
      spdlog::warn("[[unit]]: {}; retrying", what);
    }
    again_ = Clock::now() + patience_;
    patience_ = std::min<Clock::duration>(2 * patience_, kMostPatience);
  }
  unanswered_ = what;
}

void UnitSource::write_drop_ins() {
  const std::set<std::string>& units = view_.gates;
  std::set<std::string> early;
  std::set<std::string> rooted;
  for (const auto& [name, facts] : view_.facts) {
    if (!facts.default_dependencies) {
      early.insert(name);
    }
    if (!facts.root.empty()) {
      rooted.insert(name);
    }
  }
  const auto changed = drop_ins_.apply(units, early, rooted);
  if (!changed) {
    problem_ = "drop-ins: " + changed.error().message;
    reload_due_ = true;  // some drop-ins may have been written
    spdlog::error("[[unit]]: units start without waiting for enforcement: {}",
                  changed.error().text());
    return;
  }
  gated_ = units;
  problem_ = units.empty() || drop_ins_.last()
                 ? ""
                 : "drop-ins: /etc/systemd/system is read-only; a reboot removes them";
  // An earlier daemon may have written drop-ins and ended before systemd read them.
  reload_due_ = reload_due_ || *changed || (!asked_ && !units.empty());
  asked_ = true;
  if (!reload_due_) {
    return;
  }
  reload_due_ = false;
  spdlog::info("[[unit]]: {} now {} at start-up until trireme enforces {}",
               units.size() == 1 ? "1 service" : std::to_string(units.size()) + " services",
               units.size() == 1 ? "waits" : "wait", units.size() == 1 ? "it" : "them");
  bus_->send(bus_->manager_call("Reload"),
             [this, alive = std::weak_ptr(alive_)](const Result<sd_bus_message*>& reply) {
               if (!alive.expired() && !reply) {
                 reload_due_ = true;  // retried after the next query
                 problem_ = "drop-ins: daemon-reload: " + reply.error().message;
                 spdlog::error("[[unit]]: {}", problem_);
               }
             });
}

}  // namespace trireme::systemd
