// SPDX-License-Identifier: Apache-2.0
// ASCII letters in lower case, whatever the locale.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

namespace trireme {

[[nodiscard]] constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

[[nodiscard]] inline std::string lower_case(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), lower);
  return result;
}

}  // namespace trireme
