// SPDX-License-Identifier: Apache-2.0
// Which [[unit]] entry a unit is under.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "trireme/policy/identity.hpp"
#include "trireme/systemd/unit_facts.hpp"

namespace trireme::systemd {

struct MatchedUnit {
  std::string name;  // "postgresql@15.service"
  const policy::UnitRule* rule = nullptr;
};

/// The first entry in file order that matches the unit, by its own name or by an alias. Never one
/// for trireme itself, whose start would wait for itself.
[[nodiscard]] const policy::UnitRule* find_rule(const policy::Identity& identity,
                                                const Aliases& aliases, const std::string& unit);
/// The first entry that matches every instance of a template, by one of its names; where `some` is
/// enough, one that is about its instances at all.
[[nodiscard]] const policy::UnitRule* find_template_rule(const policy::Identity& identity,
                                                         const Aliases& aliases,
                                                         const std::string& name,
                                                         bool some = false);

/// The unit that this cgroup is, where an entry of `identity` names it.
[[nodiscard]] std::optional<MatchedUnit> match_unit(const policy::Identity& identity,
                                                    const Aliases& aliases,
                                                    const std::string& cgroup_path);

}  // namespace trireme::systemd
