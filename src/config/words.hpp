// SPDX-License-Identifier: Apache-2.0
// Text functions shared by the readers.
#pragma once

#include <string>
#include <string_view>

namespace trireme::config {

/// Removes white space from both ends.
[[nodiscard]] std::string_view trim(std::string_view text);
/// If the text is not UTF-8, or has control characters (base/printable.hpp), replaces each byte
/// that is not printable ASCII by \xNN, so that a file cannot put escape sequences into a terminal
/// or a log.
[[nodiscard]] std::string printable(std::string text);
/// Replaces the middle of a long text by "…", because a message can quote a value of megabytes, and
/// goes to the log and to everybody who asks for the status. `text` must be valid UTF-8.
[[nodiscard]] std::string without_middle(std::string text);
/// Whether load() reads a file of this name in policy.d and identity.d, if it can.
[[nodiscard]] bool is_drop_in(std::string_view name);

}  // namespace trireme::config
