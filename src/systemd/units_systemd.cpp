// SPDX-License-Identifier: Apache-2.0
// What PID 1 is asked and told: which units exist, which sockets start them, the drop-ins.
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
  // What a look asks about is loaded by that, and is no news.
  const bool ungated = name.ends_with(".service") && rule_for(name) != nullptr &&
                       !DropIns::cover(gated_, names_of(view_.aliases, name));
  const bool listener = name.ends_with(".socket") && rule_for(name) != nullptr;
  if (ungated || listener) {
    news_ = true;
    look_soon();
  }
}

/// Any user can have systemd load units, and so make news: between two looks for that there is a
/// pause, as long as a look takes at least. Nothing waits for them: what is born is matched by its
/// name at once, and a gate asks about its unit itself.
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

/// One at a time: what must be looked at and happens meanwhile leads to one more look.
void UnitSource::look() {
  if (looking_) {
    look_again_ = true;
    return;
  }
  looking_ = true;
  news_ = false;
  again_.reset();
  looked_ = Clock::now();
  if (identity_ == nullptr || identity_->units.empty()) {
    looked(UnitView{});
    return;
  }
  look_at_units(*bus_, identity_, view_,
                [this, alive = std::weak_ptr(alive_)](Result<UnitView> view) {
                  if (!alive.expired()) {
                    looked(std::move(view));
                  }
                });
}

void UnitSource::looked(Result<UnitView> view) {
  const auto now = Clock::now();
  pause_ = std::max<Clock::duration>(kPause, now - looked_);
  looked_ = now;
  looking_ = false;
  take(std::move(view));
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
  for (const std::string& warning : view->warnings) {
    if (std::ranges::find(view_.warnings, warning) == view_.warnings.end()) {
      spdlog::warn("{}", warning);
    }
  }
  view_ = std::move(*view);
  std::string unanswered;
  if (!view_.unanswered.empty()) {
    const auto& [unit, error] = *view_.unanswered.begin();
    unanswered = "nothing new is known of " + unit +
                 (view_.unanswered.size() == 1
                      ? ""
                      : " and " + std::to_string(view_.unanswered.size() - 1) + " more") +
                 ": " + error;
  }
  note_unanswered(unanswered);
  write_drop_ins();
  // A name that systemd has no more makes no workload anybody's; where it has not told of one, that
  // may be the name of any.
  if (is_reconfigured_ && !view_.has_unknown) {
    is_reconfigured_ = false;
    release_cgroups();
  }
  offer_cgroups();
}

/// Queries that failed are repeated, with a pause that doubles up to kMostPatience.
void UnitSource::note_unanswered(const std::string& what) {
  if (what.empty()) {
    if (!unanswered_.empty()) {
      spdlog::info("[[unit]]: systemd answers again");
    }
    patience_ = kPause;
  } else {
    if (unanswered_ != what) {
      spdlog::warn("[[unit]]: {}; asking again", what);
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
    reload_due_ = true;  // some may have been written
    spdlog::error("[[unit]]: units start without waiting for enforcement: {}",
                  changed.error().text());
    return;
  }
  gated_ = units;
  problem_ = units.empty() || drop_ins_.last()
                 ? ""
                 : "drop-ins: /etc/systemd/system is read-only: after a reboot they are gone";
  // An earlier daemon may have written them and ended before systemd had read them.
  reload_due_ = reload_due_ || *changed || (!asked_ && !units.empty());
  asked_ = true;
  if (!reload_due_) {
    return;
  }
  reload_due_ = false;
  spdlog::info("[[unit]]: {} services wait at their start until they are enforced", units.size());
  bus_->send(bus_->manager_call("Reload"),
             [this, alive = std::weak_ptr(alive_)](const Result<sd_bus_message*>& reply) {
               if (!alive.expired() && !reply) {
                 reload_due_ = true;  // at the next look
                 problem_ = "drop-ins: daemon-reload: " + reply.error().message;
                 spdlog::error("[[unit]]: {}", problem_);
               }
             });
}

}  // namespace trireme::systemd
