// SPDX-License-Identifier: Apache-2.0
// "Did you mean": the known word nearest to what was written.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace trireme {

/// The nearest of `known` by edits (insert, delete, replace, swap of neighbours; case counts for
/// nothing), else the only one that starts like it, or empty.
[[nodiscard]] std::string nearest(std::string_view written, const std::vector<std::string>& known);

/// "did you mean 'X'?", or where nothing is near: `otherwise`.
[[nodiscard]] std::string did_you_mean(std::string_view written,
                                       const std::vector<std::string>& known,
                                       std::string otherwise);

}  // namespace trireme
