// Which [[unit]] entry a cgroup is under, by its path alone.
#pragma once

#include <optional>
#include <string>

#include "trireme/policy/identity.hpp"

namespace trireme::systemd {

struct MatchedUnit {
  std::string name;  // "postgresql@15.service"
  const policy::UnitRule* rule = nullptr;
};

/// The unit that this cgroup is, where an entry of `identity` names it. Never trireme's own.
[[nodiscard]] std::optional<MatchedUnit> match_unit(const policy::Identity& identity,
                                                    const std::string& cgroup_path);

}  // namespace trireme::systemd
