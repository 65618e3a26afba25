// SPDX-License-Identifier: Apache-2.0
// Wrong command lines, answered with what was meant.
#pragma once

#include <CLI/CLI.hpp>

namespace trireme::cli {

/// Two lines on stderr: what is wrong, with the nearest word that is right, and where to read. Help
/// and version go to stdout. The exit code.
[[nodiscard]] int complain(const CLI::App& app, const CLI::ParseError& error);

/// An option that came before a subcommand which does not have it is wrong usage; reported the same
/// way. The exit code.
[[nodiscard]] int check_globals(const CLI::App& app);

}  // namespace trireme::cli
