// SPDX-License-Identifier: Apache-2.0
// Error messages: their form, and those for invalid command lines, with a suggestion.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trireme/base/result.hpp"

namespace trireme::cli {

/// What is wrong, with the nearest valid word, and how to get help.
[[nodiscard]] Error usage_error(const CLI::App& app, const CLI::ParseError& error);

/// The error for an option with an empty value, as in "--from= --to app=db": CLI11 would take the
/// next word as its value. Looks at the words before the first "--".
[[nodiscard]] std::optional<Error> find_empty_value(const CLI::App& app,
                                                    std::span<const std::string> words);

/// True if a word before the first "--" is --json, or asks for the output format json. For command
/// lines that cannot be parsed.
[[nodiscard]] bool asks_for_json(std::span<const std::string> words);

/// Rejects options before a subcommand that does not have them, and --json together with another
/// format. Call it after the command line was parsed.
[[nodiscard]] std::optional<Error> check_globals(const CLI::App& app);

/// The command that these words name, such as {"policy", "diff"}. Errors: there is none.
[[nodiscard]] Result<const CLI::App*> find_command(const CLI::App& app,
                                                   std::span<const std::string> words);

/// "PROGRAM: MESSAGE" and, if there is one, "PROGRAM: hint: HINT" on a line of its own. Control
/// characters are replaced: the daemon's messages can contain what others wrote.
[[nodiscard]] std::string error_lines(const std::string& program, const Error& error);

/// The subcommands that are not hidden.
[[nodiscard]] std::vector<const CLI::App*> visible_commands(const CLI::App& app);

/// The program that the command belongs to; itself if it is the program.
[[nodiscard]] const CLI::App& program_of(const CLI::App& command);

/// "trirectl policy diff": the names of the command and of those that it belongs to.
[[nodiscard]] std::string path_of(const CLI::App& command);

}  // namespace trireme::cli
