// SPDX-License-Identifier: Apache-2.0
// Small operations on text that the readers share.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace trireme::config {

/// Without white space at both ends.
[[nodiscard]] std::string_view trim(std::string_view text);
/// The parts between commas, trimmed.
[[nodiscard]] std::vector<std::string_view> split_at_commas(std::string_view text);
/// With what is no printable UTF-8 written as \xNN, so that a file cannot write escape sequences
/// into a terminal or a log.
[[nodiscard]] std::string printable(std::string text);
/// ASCII letters in lower case.
[[nodiscard]] std::string lower_case(std::string_view text);

}  // namespace trireme::config
