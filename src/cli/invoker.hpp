// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace trireme::cli {

/// The person who runs this command, for records of who did what: the user that called sudo, else
/// the user of the login session, else the user of the process.
[[nodiscard]] std::string invoking_user();

}  // namespace trireme::cli
