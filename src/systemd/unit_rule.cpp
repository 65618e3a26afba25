// SPDX-License-Identifier: Apache-2.0
#include "trireme/systemd/unit_rule.hpp"

#include <algorithm>

#include "unit_name.hpp"

namespace trireme::systemd {
namespace {

/// The first entry for which `fits`(pattern, name) is true for one of the names.
template <typename Fits>
const config::UnitRule* first_rule(const config::Host& host, const std::set<std::string>& names,
                                   Fits fits) {
  const auto found = std::ranges::find_if(host.units, [&](const config::UnitRule& rule) {
    return std::ranges::any_of(names,
                               [&](const std::string& name) { return fits(rule.name, name); });
  });
  return found == host.units.end() ? nullptr : &*found;
}

}  // namespace

const config::UnitRule* find_rule(const config::Host& host, const Aliases& aliases,
                                  const std::string& unit) {
  if (unit.empty() || unit == "trireme.service" || unit == "init.scope") {
    return nullptr;
  }
  return first_rule(host, names_of(aliases, unit), matches);
}

const config::UnitRule* find_template_rule(const config::Host& host, const Aliases& aliases,
                                           const std::string& name, bool some) {
  return first_rule(
      host, names_of(aliases, name), [some](const std::string& pattern, const std::string& each) {
        return matches_all_instances(pattern, each) || (some && template_of(pattern) == each);
      });
}

namespace {

/// The entry that makes a .socket unit a workload, because it matches the service that it starts.
const config::UnitRule* find_socket_rule(const config::Host& host, const UnitView& view,
                                         const std::string& socket) {
  // The services that it starts by default: name.service, or one instance of name@.service per
  // connection.
  const std::string stem = socket.substr(0, socket.rfind('.'));
  const auto known = view.sockets.find(socket);
  if (known != view.sockets.end()) {
    for (const std::string& service : known->second.triggers) {
      if (const config::UnitRule* rule = find_rule(host, view.aliases, service)) {
        return rule;
      }
    }
  }
  if (known == view.sockets.end() || !known->second.accepts) {
    if (const config::UnitRule* rule = find_rule(host, view.aliases, stem + ".service")) {
      return rule;
    }
  }
  // One service instance per connection: it is not known in advance which instance gets which.
  return known == view.sockets.end() || known->second.accepts
             ? find_template_rule(host, view.aliases, stem + "@.service", true)
             : nullptr;
}

}  // namespace

const config::UnitRule* rule_of(const config::Host& host, const UnitView& view,
                                const std::string& unit) {
  const config::UnitRule* rule = find_rule(host, view.aliases, unit);
  return rule != nullptr || !unit.ends_with(".socket") ? rule : find_socket_rule(host, view, unit);
}

std::optional<MatchedUnit> match_unit(const config::Host& host, const UnitView& view,
                                      const std::string& cgroup_path) {
  std::string unit = unit_of_path(cgroup_path);
  const config::UnitRule* rule = rule_of(host, view, unit);
  return rule == nullptr ? std::nullopt : std::optional(MatchedUnit{std::move(unit), rule});
}

std::string cgroup_of_unit(const std::string& cgroup_path) {
  return unit_path(cgroup_path);
}

std::string enclosing_unit(const std::string& cgroup_path) {
  std::string unit = unit_of_path(unit_path(cgroup_path));
  return unit.ends_with(".scope") ? std::string() : unit;
}

std::string plain_name(const std::string& unit) {
  return unit.substr(0, std::min(unit.find('@'), unit.rfind('.')));
}

}  // namespace trireme::systemd
