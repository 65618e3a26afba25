// SPDX-License-Identifier: Apache-2.0
// "Did you mean": finds the known word that is most similar to a misspelled one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace trireme {

/// Returns the word of `known` with the fewest edits (insert, delete, replace, swap of adjacent
/// characters; case-insensitive): at most 1 edit for words of up to 5 characters, else 2. If there
/// is none, the only known word that starts with `written` (3 characters or more); else empty.
[[nodiscard]] std::string nearest(std::string_view written, const std::vector<std::string>& known);

/// "did you mean 'X'?"; `otherwise` if no known word is similar.
[[nodiscard]] std::string did_you_mean(std::string_view written,
                                       const std::vector<std::string>& known,
                                       std::string otherwise);

}  // namespace trireme
