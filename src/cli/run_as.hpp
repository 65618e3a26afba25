// SPDX-License-Identifier: Apache-2.0
// The options --uid and --gid of trirun.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "trireme/base/result.hpp"

namespace trireme::cli {

/// The user and groups to run as. Resolve them before the process becomes a workload: a name
/// service may open sockets, which must not belong to the workload.
struct RunAs {
  std::optional<uid_t> uid;
  std::optional<gid_t> gid;
  std::vector<gid_t> groups;  // supplementary
};

/// Resolves names or numbers. If only a user is given, the group is the user's primary group.
/// Errors: an unknown name; a user number without a passwd entry and no group given.
[[nodiscard]] Result<RunAs> resolve_run_as(const std::optional<std::string>& user,
                                           const std::optional<std::string>& group);

/// Sets supplementary groups, gid and uid irrevocably (setgroups(2), setresgid(2), setresuid(2)).
/// Ids that the process already has need no privilege.
[[nodiscard]] Status become(const RunAs& run_as);

}  // namespace trireme::cli
