// SPDX-License-Identifier: Apache-2.0
// Error messages for invalid command lines, with a suggestion.
#pragma once

#include <CLI/CLI.hpp>

namespace trireme::cli {

/// Prints two lines on stderr: what is wrong, with the nearest valid word, and how to get help. If
/// CLI11 "failed" because of --help or --version, prints these on stdout. Returns the exit code.
[[nodiscard]] int complain(const CLI::App& app, const CLI::ParseError& error);

/// Rejects options before a subcommand that does not have them, in the same form. Returns the exit
/// code; kYes if there are none.
[[nodiscard]] int check_globals(const CLI::App& app);

}  // namespace trireme::cli
