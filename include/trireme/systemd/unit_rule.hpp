// SPDX-License-Identifier: Apache-2.0
// Which [[unit]] entry matches a unit.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "trireme/config/host.hpp"
#include "trireme/systemd/unit_facts.hpp"

namespace trireme::systemd {

struct MatchedUnit {
  std::string name;  // "postgresql@15.service"
  const config::UnitRule* rule = nullptr;
};

/// The first entry in file order that matches the unit, by its own name or by an alias; null if
/// there is none. Always null for trireme.service, whose start would wait for itself.
[[nodiscard]] const config::UnitRule* find_rule(const config::Host& host, const Aliases& aliases,
                                                const std::string& unit);
/// The first entry that matches every instance of a template, by one of its names; if `some` is
/// true, also an entry whose pattern matches only some of its instances. Null if there is none.
[[nodiscard]] const config::UnitRule* find_template_rule(const config::Host& host,
                                                         const Aliases& aliases,
                                                         const std::string& name,
                                                         bool some = false);

/// The entry that makes a unit a workload: that of find_rule(), or for a .socket that of the
/// service that it starts. Null if there is none.
[[nodiscard]] const config::UnitRule* rule_of(const config::Host& host, const UnitView& view,
                                              const std::string& unit);

/// The unit that this cgroup belongs to, if an entry of `host` makes it a workload.
[[nodiscard]] std::optional<MatchedUnit> match_unit(const config::Host& host, const UnitView& view,
                                                    const std::string& cgroup_path);
/// The cgroup of the unit that this cgroup belongs to; empty if it belongs to none.
[[nodiscard]] std::string cgroup_of_unit(const std::string& cgroup_path);

/// The service or socket unit of the system that a process in this cgroup belongs to; empty if
/// there is none.
[[nodiscard]] std::string enclosing_unit(const std::string& cgroup_path);
/// "shop" for "shop.service", "shop@1.service" and "shop.socket".
[[nodiscard]] std::string plain_name(const std::string& unit);

}  // namespace trireme::systemd
