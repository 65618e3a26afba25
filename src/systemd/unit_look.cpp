// SPDX-License-Identifier: Apache-2.0
// One query of systemd: first the unit files, then the loaded units, then each unit that matters.

#include <algorithm>
#include <chrono>
#include <utility>

#include "trireme/systemd/drop_ins.hpp"
#include "trireme/systemd/unit_rule.hpp"
#include "unit_name.hpp"

namespace trireme::systemd {
namespace {

std::string base_name(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

/// True if the pattern matches a unit, or instances of a template, among `names`.
bool has_match(const std::string& pattern, const std::set<std::string>& names) {
  return std::ranges::any_of(names, [&](const std::string& name) {
    return is_template(name) ? template_of(pattern) == name || matches_all_instances(pattern, name)
                             : matches(pattern, name);
  });
}

/// Why the entry makes no unit of this host a workload; empty if it does.
std::string doubt(const config::Host& host, const UnitView& view,
                  const std::set<std::string>& names, const config::UnitRule& rule) {
  if (!is_plain(rule.name)) {
    const std::string some = template_of(rule.name);
    if (names.contains(some) && !matches_all_instances(rule.name, some)) {
      return "matches only some instances of " + some +
             ": a new instance starts without waiting for enforcement";
    }
    return has_match(rule.name, names) ? "" : "no unit on this host matches";
  }
  const auto known = view.facts.find(rule.name);
  if (known == view.facts.end()) {
    return "systemd did not describe this unit";
  }
  const UnitFacts& facts = known->second;
  if (facts.load_state == "not-found") {
    return "no such unit on this host";
  }
  if (facts.load_state != "loaded") {
    return "systemd cannot start this unit: it is " + facts.load_state;
  }
  const config::UnitRule* first = find_rule(host, view.aliases, facts.id);
  if (first != nullptr && first != &rule && !(first->labels == rule.labels)) {
    return "this unit is " + facts.id + ", which gets its labels from '" + first->name + "' (" +
           first->where.text() + ")";
  }
  return "";
}

/// A warning if a matched unit has its own root, where it cannot wait until it is enforced;
/// otherwise empty.
std::string rooted(const UnitView& view, const config::UnitRule& rule) {
  for (const auto& [name, facts] : view.facts) {
    const bool matched =
        is_template(name) ? matches_all_instances(rule.name, name) : matches(rule.name, name);
    if (matched && !facts.root.empty()) {
      return name + " has its own root in " + facts.root +
             " and cannot wait for enforcement there: it will not start";
    }
  }
  return "";
}

class Look : public std::enable_shared_from_this<Look> {
 public:
  Look(Bus& bus, std::shared_ptr<const config::Host> host, std::set<std::string> held,
       UnitView last, std::function<void(Result<UnitView>)> done)
      : bus_(bus),
        host_(std::move(host)),
        held_(std::move(held)),
        last_(std::move(last)),
        done_(std::move(done)) {}

  void begin() {
    bus_.send(bus_.manager_call("ListUnitFiles"),
              [self = shared_from_this()](Result<sd_bus_message*> reply) {
                self->with_files(std::move(reply));
              });
  }

 private:
  void with_files(Result<sd_bus_message*> reply) {
    if (!reply || sd_bus_message_enter_container(*reply, 'a', "(ss)") < 0) {
      done_(reply ? fail("cannot parse systemd's list of unit files")
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
      done_(reply ? fail("cannot parse systemd's list of units") : tl::unexpected(reply.error()));
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
    for (const std::string& unit : held_) {
      if (!DropIns::cover(view_.gates, {unit})) {
        view_.gates.insert(unit);
      }
    }
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
    for (const config::UnitRule& rule : host_->units) {
      for (const std::string& text : {doubt(*host_, view_, names_, rule), rooted(view_, rule)}) {
        if (!text.empty()) {
          view_.warnings.push_back({.severity = config::Diagnostic::Severity::warning,
                                    .where = rule.where,
                                    .message = "[[unit]] '" + rule.name + "': " + text,
                                    .hint = {},
                                    .kind = "unit"});
        }
      }
    }
    add_prefixes();
    done_(std::move(view_));
  }

  /// The services and templates that need a drop-in. If an entry matches every instance of a
  /// template, the template's drop-in covers its instances.
  [[nodiscard]] std::set<std::string> gates() const {
    static const Aliases none;
    std::set<std::string> found;
    for (const config::UnitRule& rule : host_->units) {
      if (is_plain(rule.name)) {
        found.insert(rule.name);
      }
    }
    for (const std::string& name : names_) {
      if (name.ends_with(".service") && is_template(name) &&
          find_template_rule(*host_, none, name) != nullptr) {
        found.insert(name);
      }
    }
    for (const std::string& name : names_) {
      if (name.ends_with(".service") && !is_template(name) &&
          find_rule(*host_, none, name) != nullptr && !found.contains(template_of(name))) {
        found.insert(name);
      }
    }
    return found;
  }

  /// Units that a pattern matches can be created immediately before their start, so
  /// "batch-*.service" gets the drop-in of the prefix in advance.
  void add_prefixes() {
    for (const config::UnitRule& rule : host_->units) {
      if (const std::string prefix = prefix_of(rule.name); !prefix.empty()) {
        view_.gates.insert(prefix);
        // If one of them starts early, the common drop-in must not survive a reboot.
        view_.facts[prefix].default_dependencies =
            std::ranges::all_of(view_.facts, [&](const auto& item) {
              return item.second.default_dependencies || !matches(rule.name, item.first);
            });
      }
    }
  }

  Bus& bus_;
  std::shared_ptr<const config::Host> host_;
  std::set<std::string> held_;
  UnitView last_;
  std::function<void(Result<UnitView>)> done_;
  std::set<std::string> names_;  // of unit files, aliases included, and of loaded units
  UnitView view_;
  std::size_t asked_ = 0;
};

}  // namespace

void look_at_units(Bus& bus, std::shared_ptr<const config::Host> host, std::set<std::string> held,
                   UnitView last, std::function<void(Result<UnitView>)> done) {
  std::make_shared<Look>(bus, std::move(host), std::move(held), std::move(last), std::move(done))
      ->begin();
}

UnitView view_units(const std::shared_ptr<const config::Host>& host,
                    std::chrono::milliseconds patience) {
  UnitView view;
  if (host->units.empty()) {
    return view;
  }
  auto loop = event::Loop::create();
  if (!loop) {
    return view;
  }
  if (auto bus = Bus::connect(loop->get())) {
    bool done = false;
    look_at_units(**bus, host, {}, {}, [&](Result<UnitView> found) {
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
