// SPDX-License-Identifier: Apache-2.0
#include "trireme/systemd/launch_shares.hpp"

#include <string>

namespace trireme::systemd {

Status LaunchShares::permits(std::uint32_t uid, Clock::time_point now) {
  if (room_.is_scarce()) {
    return fail("more than half of all numbers of cgroups are in use: root alone may launch now",
                "'trirectl status' says how many");
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
                        " commands that run, or of which some process still has a socket",
                    "end them; no user may have more");
}

void LaunchShares::launched(std::uint32_t uid, std::uint64_t cgroup_id) {
  by_user_[uid].cgroups.push_back(cgroup_id);
}

}  // namespace trireme::systemd
