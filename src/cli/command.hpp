// SPDX-License-Identifier: Apache-2.0
// What every subcommand of trirectl shares.
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "trireme/base/result.hpp"
#include "trireme/control/client.hpp"

namespace trireme::cli {

inline constexpr int kYes = 0;    // yes, done, valid
inline constexpr int kNo = 1;     // no, refused, invalid, not reachable
inline constexpr int kUsage = 2;  // wrong command line

/// Options of every subcommand.
struct Globals {
  std::string runtime_dir;
  std::string config_dir;  // empty: not given
  bool json = false;
};

/// What the chosen subcommand does; its value is the exit code. Set by the subcommand's callback.
using Action = std::function<int()>;

/// --json; and with --runtime-dir and --config-dir. What has subcommands has the options of those
/// as well, so that they may come before the subcommand; check_globals() refuses the others.
void add_json(CLI::App& command, Globals& globals);
void add_globals(CLI::App& command, Globals& globals);

/// A subcommand with the options of add_globals().
CLI::App* add_command(CLI::App& parent, Globals& globals, const std::string& name,
                      const std::string& description);

void add_status(CLI::App& parent, Globals& globals, Action& action);
void add_workloads(CLI::App& parent, Globals& globals, Action& action);
void add_flows(CLI::App& parent, Globals& globals, Action& action);
void add_reload(CLI::App& parent, Globals& globals, Action& action);
void add_policy_check(CLI::App& parent, Globals& globals, Action& action);
void add_policy_test(CLI::App& parent, Globals& globals, Action& action);
void add_policy_explain(CLI::App& parent, Globals& globals, Action& action);
void add_policy_convert(CLI::App& parent, Globals& globals, Action& action);
void add_policy_diff(CLI::App& parent, Globals& globals, Action& action);
void add_policy_suggest(CLI::App& parent, Globals& globals, Action& action);
void add_policy_graph(CLI::App& parent, Globals& globals, Action& action);
void add_pki(CLI::App& parent, Globals& globals, Action& action);
void add_metrics(CLI::App& parent, Globals& globals, Action& action);
void add_flush(CLI::App& parent, Globals& globals, Action& action);
void add_unit_gate(CLI::App& parent, Globals& globals, Action& action);
void add_words(CLI::App& parent, Globals& globals, Action& action);

/// One call to the daemon. Events as in control::Client::call.
[[nodiscard]] Result<nlohmann::json> ask(
    const Globals& globals, const char* method, const nlohmann::json& params,
    std::chrono::milliseconds timeout = std::chrono::seconds(30),
    const std::function<bool(const nlohmann::json&)>& on_event = {});

/// --config-dir, else the directory that the running daemon reads, else /etc/trireme: where no
/// daemon answers in seconds, or not to this user.
[[nodiscard]] std::string configuration_dir(const Globals& globals);

/// Whether the directory is /etc/trireme, or that of the running daemon, under whatever name.
[[nodiscard]] bool is_configuration_dir(const Globals& globals, const std::string& directory);

/// "trirectl: MESSAGE", and the hint on a line of its own, on stderr; with --json also {"error":
/// ...} on stdout. Returns kNo.
int report(const Globals& globals, const Error& error);

/// One line on stdout for people and programs alike.
void print_json(const nlohmann::json& value);

}  // namespace trireme::cli
