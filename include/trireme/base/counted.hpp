// SPDX-License-Identifier: Apache-2.0
// Numbers with their nouns, for messages.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace trireme {

/// "1 rule", "2 rules". For nouns whose plural ends in "s".
[[nodiscard]] inline std::string counted(std::uint64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

}  // namespace trireme
