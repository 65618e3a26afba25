// SPDX-License-Identifier: Apache-2.0
// Who gave an order, for records of it: the history of policies, orders of quarantine.
#pragma once

#include <string>

#include "trireme/control/server.hpp"

namespace trireme::daemon {

/// The name of the user who logged in, if the kernel knows (sudo and su do not change it), else of
/// the user of the process. From the kernel alone: what a request says about its sender could be
/// invented. "uid N" if /etc/passwd does not name the user (see local_user()).
[[nodiscard]] std::string user_of(const control::Caller& caller);

}  // namespace trireme::daemon
