// SPDX-License-Identifier: Apache-2.0
// One look at what systemd knows: unit files first, then loaded units, then each that matters.

#include <algorithm>
#include <chrono>
#include <utility>

#include "trireme/systemd/unit_rule.hpp"
#include "unit_name.hpp"

namespace trireme::systemd {
namespace {

std::string base_name(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

/// Some unit or template among `names` is what the pattern is about.
bool has_match(const std::string& pattern, const std::set<std::string>& names) {
  return std::ranges::any_of(names, [&](const std::string& name) {
    return is_template(name) ? template_of(pattern) == name || matches_all_instances(pattern, name)
                             : matches(pattern, name);
  });
}

/// Why the entry makes nothing a workload here; empty where it does.
std::string doubt(const policy::Identity& identity, const UnitView& view,
                  const std::set<std::string>& names, const policy::UnitRule& rule) {
  if (!is_plain(rule.name)) {
    const std::string some = template_of(rule.name);
    if (names.contains(some) && !matches_all_instances(rule.name, some)) {
      return "it matches some instances of " + some +
             " only: one that has never been there starts without waiting for enforcement";
    }
    return has_match(rule.name, names) ? "" : "no unit of this host matches it";
  }
  const auto known = view.facts.find(rule.name);
  if (known == view.facts.end()) {
    return "systemd does not say what it is";
  }
  const UnitFacts& facts = known->second;
  if (facts.load_state == "not-found") {
    return "this host has no such unit";
  }
  if (facts.load_state != "loaded") {
    return "systemd cannot start it: it is " + facts.load_state;
  }
  const policy::UnitRule* first = find_rule(identity, view.aliases, facts.id);
  if (first != nullptr && first != &rule && !(first->labels == rule.labels)) {
    return "it is " + facts.id + ", which has the labels of '" + first->name + "' (" +
           first->where.text() + ")";
  }
  return "";
}

/// Units that match and that nothing can hold back until they are enforced.
std::string rooted(const UnitView& view, const policy::UnitRule& rule) {
  for (const auto& [name, facts] : view.facts) {
    const bool matched =
        is_template(name) ? matches_all_instances(rule.name, name) : matches(rule.name, name);
    if (matched && !facts.root.empty()) {
      return name + " has its root in " + facts.root +
             ", where nothing can wait for enforcement: it will not start";
    }
  }
  return "";
}

class Look : public std::enable_shared_from_this<Look> {
 public:
  Look(Bus& bus, std::shared_ptr<const policy::Identity> identity, UnitView last,
       std::function<void(Result<UnitView>)> done)
      : bus_(bus), identity_(std::move(identity)), last_(std::move(last)), done_(std::move(done)) {}

  void begin() {
    bus_.send(bus_.manager_call("ListUnitFiles"),
              [self = shared_from_this()](Result<sd_bus_message*> reply) {
                self->with_files(std::move(reply));
              });
  }

 private:
  void with_files(Result<sd_bus_message*> reply) {
    if (!reply || sd_bus_message_enter_container(*reply, 'a', "(ss)") < 0) {
      done_(reply ? fail("systemd's list of unit files is unreadable")
                  : tl::unexpected(reply.error()));
      return;
    }
    const char* path = nullptr;
    const char* state = nullptr;
    while (sd_bus_message_read(*reply, "(ss)", &path, &state) > 0) {
      names_.insert(base_name(path));
    }
    bus_.send(bus_.manager_call("ListUnits"),
              [self = shared_from_this()](Result<sd_bus_message*> units) {
                self->with_units(std::move(units));
              });
  }

  void with_units(Result<sd_bus_message*> reply) {
    if (!reply || sd_bus_message_enter_container(*reply, 'a', "(ssssssouso)") < 0) {
      done_(reply ? fail("systemd's list of units is unreadable") : tl::unexpected(reply.error()));
      return;
    }
    std::set<std::string> sockets;
    const char* name = nullptr;
    while (sd_bus_message_enter_container(*reply, 'r', "ssssssouso") > 0) {
      const char* load = nullptr;
      if (sd_bus_message_read(*reply, "s", &name) > 0 && sd_bus_message_skip(*reply, "s") >= 0 &&
          sd_bus_message_read(*reply, "s", &load) > 0 && std::string_view(load) != "not-found") {
        names_.insert(name);
        if (std::string_view(name).ends_with(".socket")) {
          sockets.insert(name);
        }
      }
      sd_bus_message_skip(*reply, "sssouso");
      sd_bus_message_exit_container(*reply);
    }
    ask_each(sockets);
  }

  void ask_each(const std::set<std::string>& sockets) {
    view_.gates = gates();
    const std::set<std::string> services = view_.gates;
    asked_ = services.size() + sockets.size() + 1;
    for (const std::string& service : services) {
      ask(service, &UnitView::facts);
    }
    for (const std::string& socket : sockets) {
      ask(socket, &UnitView::sockets);
    }
    answered();
  }

  using Known = std::map<std::string, UnitFacts> UnitView::*;

  void ask(const std::string& unit, Known known) {
    ask_unit(bus_, unit, [self = shared_from_this(), unit, known](Result<UnitFacts> facts) {
      if (facts) {
        self->learn(unit, known, std::move(*facts));
      } else {
        self->keep_last(unit, known, facts.error());
      }
      self->answered();
    });
  }

  void learn(const std::string& unit, Known known, UnitFacts facts) {
    learn_aliases(view_.aliases, facts);
    (view_.*known).emplace(unit, std::move(facts));
  }

  void keep_last(const std::string& unit, Known known, const Error& error) {
    view_.unanswered.emplace(unit, error.message);
    if (const auto last = (last_.*known).find(unit); last != (last_.*known).end()) {
      learn(unit, known, last->second);
    } else {
      view_.has_unknown = true;
    }
  }

  void answered() {
    if (--asked_ > 0) {
      return;
    }
    for (const policy::UnitRule& rule : identity_->units) {
      for (const std::string& text :
           {doubt(*identity_, view_, names_, rule), rooted(view_, rule)}) {
        if (!text.empty()) {
          view_.warnings.push_back(rule.where.text() + ": warning: [[unit]] '" + rule.name +
                                   "': " + text);
        }
      }
    }
    add_prefixes();
    done_(std::move(view_));
  }

  /// The services and templates that need a drop-in. An instance is covered by its template's where
  /// every instance matches.
  [[nodiscard]] std::set<std::string> gates() const {
    static const Aliases none;
    std::set<std::string> found;
    for (const policy::UnitRule& rule : identity_->units) {
      if (is_plain(rule.name)) {
        found.insert(rule.name);
      }
    }
    for (const std::string& name : names_) {
      if (name.ends_with(".service") && is_template(name) &&
          find_template_rule(*identity_, none, name) != nullptr) {
        found.insert(name);
      }
    }
    for (const std::string& name : names_) {
      if (name.ends_with(".service") && !is_template(name) &&
          find_rule(*identity_, none, name) != nullptr && !found.contains(template_of(name))) {
        found.insert(name);
      }
    }
    return found;
  }

  /// What a pattern matches may be made by somebody a moment before it starts: "batch-*.service"
  /// has its drop-in beforehand.
  void add_prefixes() {
    for (const policy::UnitRule& rule : identity_->units) {
      if (const std::string prefix = prefix_of(rule.name); !prefix.empty()) {
        view_.gates.insert(prefix);
        // Where one of them starts early, the drop-in for all must be gone at a boot.
        view_.facts[prefix].default_dependencies =
            std::ranges::all_of(view_.facts, [&](const auto& item) {
              return item.second.default_dependencies || !matches(rule.name, item.first);
            });
      }
    }
  }

  Bus& bus_;
  std::shared_ptr<const policy::Identity> identity_;
  UnitView last_;
  std::function<void(Result<UnitView>)> done_;
  std::set<std::string> names_;  // of unit files, aliases included, and of loaded units
  UnitView view_;
  std::size_t asked_ = 0;
};

}  // namespace

void look_at_units(Bus& bus, std::shared_ptr<const policy::Identity> identity, UnitView last,
                   std::function<void(Result<UnitView>)> done) {
  std::make_shared<Look>(bus, std::move(identity), std::move(last), std::move(done))->begin();
}

UnitView view_units(const std::shared_ptr<const policy::Identity>& identity,
                    std::chrono::milliseconds patience) {
  UnitView view;
  if (identity->units.empty()) {
    return view;
  }
  auto loop = event::Loop::create();
  if (!loop) {
    return view;
  }
  if (auto bus = Bus::connect(loop->get())) {
    bool done = false;
    look_at_units(**bus, identity, {}, [&](Result<UnitView> found) {
      done = true;
      if (found) {
        view = std::move(*found);
      }
    });
    const auto end = std::chrono::steady_clock::now() + patience;
    constexpr std::chrono::milliseconds kTurn(100);
    while (!done && std::chrono::steady_clock::now() < end && loop->run_once(kTurn)) {
    }
  }
  return view;
}

}  // namespace trireme::systemd
