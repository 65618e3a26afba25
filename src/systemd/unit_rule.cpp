#include "trireme/systemd/unit_rule.hpp"

#include <algorithm>

#include "unit_name.hpp"

namespace trireme::systemd {

std::optional<MatchedUnit> match_unit(const policy::Identity& identity,
                                      const std::string& cgroup_path) {
  std::string unit = unit_of_path(cgroup_path);
  if (unit.empty() || unit == "trireme.service" || unit == "init.scope") {
    return std::nullopt;
  }
  const auto found = std::ranges::find_if(
      identity.units, [&](const policy::UnitRule& rule) { return matches(rule.name, unit); });
  return found == identity.units.end() ? std::nullopt
                                       : std::optional(MatchedUnit{std::move(unit), &*found});
}

}  // namespace trireme::systemd
