// SPDX-License-Identifier: Apache-2.0
// --uid and --gid of trirun.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "trireme/base/result.hpp"

namespace trireme::cli {

/// Resolved before the daemon is asked: a name service may open sockets, which are to stay outside
/// the workload.
struct RunAs {
  std::optional<uid_t> uid;
  std::optional<gid_t> gid;
  std::vector<gid_t> groups;  // supplementary
};

/// Names or numbers. With a user alone, the group is the user's; a number without a passwd entry
/// needs a group beside it.
[[nodiscard]] Result<RunAs> resolve_run_as(const std::optional<std::string>& user,
                                           const std::optional<std::string>& group);

/// setgroups, setgid, setuid, for good. Ids that the process has already need no privilege.
[[nodiscard]] Status become(const RunAs& run_as);

}  // namespace trireme::cli
