// SPDX-License-Identifier: Apache-2.0
#include "trireme/systemd/launch_shares.hpp"

#include <string>

namespace trireme::systemd {

Status LaunchShares::permits(std::uint32_t uid, Clock::time_point now) {
  if (room_.is_scarce()) {
    return fail("more than half of all workload numbers are in use; only root may launch now",
                "'trirectl status' shows how many");
  }
  const auto found = by_user_.find(uid);
  if (found == by_user_.end()) {
    return {};
  }
  Held& held = found->second;
  if (held.cgroups.size() >= share_ && now - held.looked >= std::chrono::seconds(1)) {
    held.looked = now;
    std::erase_if(held.cgroups, [this](std::uint64_t id) { return !room_.is_held(id); });
  }
  return held.cgroups.size() < share_
             ? Status{}
             : fail("the user has launched " + std::to_string(share_) +
                        " commands that still run or whose sockets are still open",
                    "end some of them; a user may have no more");
}

void LaunchShares::launched(std::uint32_t uid, std::uint64_t cgroup_id) {
  by_user_[uid].cgroups.push_back(cgroup_id);
}

}  // namespace trireme::systemd
