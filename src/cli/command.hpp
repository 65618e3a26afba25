// SPDX-License-Identifier: Apache-2.0
// What all subcommands of trirectl share: options, exit codes, calls to the daemon, error output.
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "output.hpp"
#include "trireme/base/result.hpp"
#include "trireme/control/client.hpp"

namespace trireme::cli {

inline constexpr int kYes = 0;    // success, valid, allowed
inline constexpr int kNo = 1;     // failure, invalid, denied, daemon not reachable
inline constexpr int kUsage = 2;  // invalid usage

/// Options that every subcommand accepts.
struct Globals : Output {
  std::string runtime_dir;
  std::string config_dir;  // empty: not given
  /// Calls of ask() fail at once when the reading end of this pipe is closed. -1: no pipe.
  int end_pipe = -1;
};

/// Runs the chosen subcommand and returns the exit code. Set by the subcommand's callback, and
/// called after the whole command line was parsed.
using Action = std::function<int()>;

/// Adds the options of add_output(), --runtime-dir and --config-dir. A command that has subcommands
/// gets their options too, so that these can come before the subcommand; check_globals() rejects
/// options that the chosen subcommand does not have.
void add_globals(CLI::App& command, Globals& globals);

/// Adds a subcommand with the options of add_globals().
CLI::App* add_command(CLI::App& parent, Globals& globals, const std::string& name,
                      const std::string& description);

void add_status(CLI::App& parent, Globals& globals, Action& action);
void add_workloads(CLI::App& parent, Globals& globals, Action& action);
void add_survey(CLI::App& parent, Globals& globals, Action& action);
void add_quarantine(CLI::App& parent, Globals& globals, Action& action);
void add_release(CLI::App& parent, Globals& globals, Action& action);
void add_flows(CLI::App& parent, Globals& globals, Action& action);
void add_top(CLI::App& parent, Globals& globals, Action& action);
void add_rules(CLI::App& parent, Globals& globals, Action& action);
void add_reload(CLI::App& parent, Globals& globals, Action& action);
void add_policy_check(CLI::App& parent, Globals& globals, Action& action);
void add_policy_lint(CLI::App& parent, Globals& globals, Action& action);
void add_policy_test(CLI::App& parent, Globals& globals, Action& action);
void add_policy_explain(CLI::App& parent, Globals& globals, Action& action);
void add_policy_convert(CLI::App& parent, Globals& globals, Action& action);
void add_policy_diff(CLI::App& parent, Globals& globals, Action& action);
void add_policy_apply(CLI::App& parent, Globals& globals, Action& action);
void add_policy_confirm(CLI::App& parent, Globals& globals, Action& action);
void add_policy_history(CLI::App& parent, Globals& globals, Action& action);
void add_policy_rollback(CLI::App& parent, Globals& globals, Action& action);
void add_policy_suggest(CLI::App& parent, Globals& globals, Action& action);
void add_policy_graph(CLI::App& parent, Globals& globals, Action& action);
void add_pki(CLI::App& parent, Globals& globals, Action& action);
void add_metrics(CLI::App& parent, Globals& globals, Action& action);
void add_ui(CLI::App& parent, Globals& globals, Action& action);
void add_flush(CLI::App& parent, Globals& globals, Action& action);
void add_unit_gate(CLI::App& parent, Globals& globals, Action& action);
void add_help(CLI::App& parent, Globals& globals, Action& action);
void add_version(CLI::App& parent, Globals& globals, Action& action);
void add_schema(CLI::App& parent, Action& action);

/// Adds all commands of trirectl to `app`.
void add_commands(CLI::App& app, Globals& globals, Action& action);
/// Runs trirectl with these words, the first of which is the program's name. Returns the exit code.
[[nodiscard]] int trirectl(const std::vector<std::string>& words);

/// Calls one method of the daemon. `on_event` as in control::Client::call.
[[nodiscard]] Result<nlohmann::json> ask(
    const Globals& globals, const char* method, const nlohmann::json& params,
    std::chrono::milliseconds timeout = std::chrono::seconds(30),
    const std::function<bool(const nlohmann::json&)>& on_event = {});

/// Calls a method of the daemon and prints its result with `print`; with --json, as JSON. Returns
/// the exit code.
int print_answer(const Globals& globals, const char* method, const nlohmann::json& params,
                 const std::function<void(const nlohmann::json&)>& print,
                 std::chrono::milliseconds timeout = std::chrono::seconds(30));

/// --config-dir if given; else the directory that the running daemon reads; else (no daemon answers
/// within 5 s, or this user must not ask it) /etc/trireme.
[[nodiscard]] std::string configuration_dir(const Globals& globals);

/// Compares the directories, not their names. False if one of them does not exist.
[[nodiscard]] bool is_same_directory(const std::string& one, const std::string& other);

/// True if the directory is /etc/trireme or the running daemon's, as is_same_directory() does.
[[nodiscard]] bool is_configuration_dir(const Globals& globals, const std::string& directory);

/// Prints "trirectl: MESSAGE" and, on a line of its own, the hint on stderr; with --json also
/// {"error": {"message", "hint"}} on stdout, with "kind": "usage" if the error is one of usage.
/// Returns kUsage for such an error, else kNo.
int report(const Globals& globals, const Error& error);

/// The value as one line. Control characters in strings are escaped, those of control_at() too, so
/// that they can neither be escape sequences for a terminal nor change the direction of text.
[[nodiscard]] std::string json_text(const nlohmann::json& value);
/// Prints json_text() on stdout, and flushes it.
void print_json(const nlohmann::json& value);

}  // namespace trireme::cli
