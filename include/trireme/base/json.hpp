// SPDX-License-Identifier: Apache-2.0
// Parses JSON from clients, container engines and files, with a limit on nesting.
//
// nlohmann::json parses without recursion, but copying, comparing and writing a value recurse once
// per level: 64,000 levels, which fit a 128 KiB line, overflow an 8 MiB stack.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string_view>

#include "trireme/base/result.hpp"

namespace trireme {

/// Levels. Files of trireme and answers of container engines have about 10.
inline constexpr std::size_t kJsonDepth = 64;

/// Reads one JSON value. Errors: not JSON, or objects and arrays nested more than `depth` levels
/// (a bare number has 0, "[]" has 1). No value is built before the whole text was checked.
[[nodiscard]] Result<nlohmann::json> parse_json(std::string_view text,
                                                std::size_t depth = kJsonDepth);

}  // namespace trireme
