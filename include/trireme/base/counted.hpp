// SPDX-License-Identifier: Apache-2.0
// Numbers with their nouns, and lists of words, for messages.
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

/// "a, b, c and 2 more": the first `most` of the words.
template <typename Words>
[[nodiscard]] std::string listed(const Words& words, std::size_t most) {
  std::string text;
  std::size_t shown = 0;
  for (const std::string& word : words) {
    if (shown == most) {
      return text + fmt::format(" and {} more", words.size() - most);
    }
    text += (shown++ == 0 ? "" : ", ") + word;
  }
  return text;
}

}  // namespace trireme
