// SPDX-License-Identifier: Apache-2.0
// Characters that do more than stand in a line. Names, labels and files come from others and can
// contain them: an escape sequence would control the terminal, and U+202E shows the rest of a
// table's line from right to left.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace trireme {

struct ControlCharacter {
  std::uint32_t code = 0;
  std::size_t size = 0;  // in bytes; 0: the character is none
};

/// The control character that begins at text[at]: C0 (line ends and tabs too), DEL and C1 (U+009B
/// begins an escape sequence); the line separators U+2028 and U+2029; and what changes the
/// direction of text: U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069.
[[nodiscard]] ControlCharacter control_at(std::string_view text, std::size_t at);

/// Replaces each control character by '?'.
[[nodiscard]] std::string printable(std::string_view text);
/// printable() for each line of the text.
[[nodiscard]] std::string printable_lines(std::string_view text);

}  // namespace trireme
