// What PID 1 is asked and told: which units exist, which sockets start them, the drop-ins.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "trireme/systemd/units.hpp"
#include "unit_name.hpp"

namespace trireme::systemd {

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
    look();
  }
}

/// One at a time: news that arrives meanwhile leads to one more look.
void UnitSource::look() {
  if (looking_) {
    look_again_ = true;
    return;
  }
  looking_ = true;
  if (identity_ == nullptr || identity_->units.empty()) {
    looked(UnitView{});
    return;
  }
  look_at_units(*bus_, identity_, [this, alive = std::weak_ptr(alive_)](Result<UnitView> view) {
    if (!alive.expired()) {
      looked(std::move(view));
    }
  });
}

void UnitSource::looked(Result<UnitView> view) {
  looking_ = false;
  take(std::move(view));
  if (std::exchange(look_again_, false)) {
    look();
  } else {
    for (const auto& answer : std::exchange(waiting_, {})) {
      answer();
    }
  }
}

void UnitSource::take(Result<UnitView> view) {
  if (!view) {
    problem_ = "drop-ins: " + view.error().message;
    spdlog::warn("[[unit]]: {}", problem_);
    return;
  }
  for (const std::string& warning : view->warnings) {
    if (std::ranges::find(view_.warnings, warning) == view_.warnings.end()) {
      spdlog::warn("{}", warning);
    }
  }
  view_ = std::move(*view);
  write_drop_ins();
  // A name that systemd has no more, or has not told of, makes no workload anybody's.
  if (std::exchange(is_reconfigured_, false)) {
    release_cgroups();
  }
  offer_cgroups();
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
