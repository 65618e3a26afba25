// SPDX-License-Identifier: Apache-2.0
// The comparison of `policy diff`, which `policy apply` shows before it asks.
#pragma once

#include <cstdint>

#include "command.hpp"
#include "trireme/config/loader.hpp"

namespace trireme::cli {

enum class Compared : std::uint8_t { same, differs, failed };

/// Prints what a valid configuration, read from `directory`, would change if it were applied.
/// Reports why it cannot.
[[nodiscard]] Compared show_diff(const Globals& globals, const config::Configuration& configuration,
                                 const std::string& directory);

}  // namespace trireme::cli
