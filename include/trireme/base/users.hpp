// SPDX-License-Identifier: Apache-2.0
// Names of users, without name services.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace trireme {

/// The user's name in /etc/passwd; nullopt if it is not there. Other name services are not asked:
/// they can block the caller for minutes, just when an incident makes them slow.
[[nodiscard]] std::optional<std::string> local_user(std::uint32_t uid);

}  // namespace trireme
