// SPDX-License-Identifier: Apache-2.0
// Diagnostics of a configuration, for people and for programs.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "trireme/config/loader.hpp"

namespace trireme::cli {

struct Globals;

[[nodiscard]] inline bool is_error(const config::Diagnostic& diagnostic) {
  return diagnostic.severity == config::Diagnostic::Severity::error;
}

/// [{"severity": "error|warning", "file": "policy.toml", "line": 12, "column": 8, "message": "...",
/// "hint": "...", "kind": "what lint calls it, or empty", "text": "all in one line"}]
[[nodiscard]] nlohmann::json to_json(const std::vector<config::Diagnostic>& diagnostics);

/// [[unit]] entries that match no unit of this host. Empty if systemd does not answer within 3 s.
[[nodiscard]] std::vector<config::Diagnostic> unit_warnings(const config::Host& host);

/// Adds --format text|json|github. `json` is the same as --json.
void add_format(CLI::App& command, std::string& format);
[[nodiscard]] bool wants_json(const Globals& globals, const std::string& format);

/// Prints each diagnostic on stdout: as text, or with the format `github` as a workflow command of
/// GitHub Actions, which shows it beside the line of the file.
void print_diagnostics(const std::string& directory,
                       const std::vector<config::Diagnostic>& diagnostics,
                       const std::string& format);

/// Prints the diagnostics and "trirectl: DIR is invalid: OUTCOME" on stderr; with --json also
/// {"error", "diagnostics"} on stdout.
void report_invalid(const Globals& globals, const std::string& directory,
                    const std::vector<config::Diagnostic>& diagnostics, const char* outcome);

}  // namespace trireme::cli
