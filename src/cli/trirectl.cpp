// SPDX-License-Identifier: Apache-2.0
// trirectl: queries the daemon, and checks policies without it. One file per subcommand.
#include <fmt/format.h>

#include "command.hpp"
#include "completion.hpp"
#include "trireme/control/instance.hpp"
#include "trireme/control/methods.hpp"
#include "usage.hpp"

namespace trireme::cli {

void add_commands(CLI::App& app, Globals& globals, Action& action) {
  app.description("Inspect and check what trireme enforces");
  app.name("trirectl");
  app.set_version_flag("--version", "trirectl " TRIREME_VERSION);
  app.require_subcommand(1);
  add_globals(app, globals);
  add_status(app, globals, action);
  add_workloads(app, globals, action);
  add_flows(app, globals, action);
  add_top(app, globals, action);
  add_rules(app, globals, action);
  add_survey(app, globals, action);
  add_quarantine(app, globals, action);
  add_release(app, globals, action);
  add_reload(app, globals, action);
  CLI::App* policy = app.add_subcommand("policy", "Check, explain, compare, apply and draw policy");
  policy->require_subcommand(1);
  add_globals(*policy, globals);
  add_policy_check(*policy, globals, action);
  add_policy_lint(*policy, globals, action);
  add_policy_test(*policy, globals, action);
  add_policy_explain(*policy, globals, action);
  add_policy_convert(*policy, globals, action);
  add_policy_diff(*policy, globals, action);
  add_policy_apply(*policy, globals, action);
  add_policy_confirm(*policy, globals, action);
  add_policy_history(*policy, globals, action);
  add_policy_rollback(*policy, globals, action);
  add_policy_suggest(*policy, globals, action);
  add_policy_graph(*policy, globals, action);
  add_ui(app, globals, action);
  add_pki(app, globals, action);
  add_metrics(app, globals, action);
  add_flush(app, globals, action);
  add_unit_gate(app, globals, action);
  add_help(app, globals, action);
  add_version(app, globals, action);
  add_schema(app, action);
  app.get_formatter()->column_width(24);
}

namespace {

/// What the words of a daemon are; an empty object if it does not answer, or not to this user.
nlohmann::json known_names(Globals globals, const std::string& runtime_dir) {
  if (!runtime_dir.empty()) {
    globals.runtime_dir = runtime_dir;
  }
  auto answer =
      ask(globals, control::method::words, nlohmann::json::object(), std::chrono::seconds(2));
  return answer && answer->is_object() ? std::move(*answer) : nlohmann::json::object();
}

/// 'trirectl complete PROGRAM WORD...', for the completion functions of shells. CLI11 does not see
/// it: the words are an unfinished command line.
int print_completion(const CLI::App& app, const Globals& globals, const std::string& program,
                     const std::vector<std::string>& words) {
  const auto names = [&globals](const std::string& runtime_dir) {
    return known_names(globals, runtime_dir);
  };
  const Completion completion =
      program == "trirun" ? complete_trirun(words, names) : complete(app, words, names);
  fmt::print("{}", completion.text());
  return kYes;
}

}  // namespace

int trirectl(const std::vector<std::string>& words) {
  Globals globals;
  globals.runtime_dir = control::default_runtime_dir();
  Action action;
  CLI::App app;
  add_commands(app, globals, action);
  if (words.size() > 2 && words[1] == "complete") {
    return print_completion(app, globals, words[2], {words.begin() + 3, words.end()});
  }
  Globals unparsed;  // CLI11 sets `globals` only for a valid line
  unparsed.json = asks_for_json(words);
  if (const auto error = find_empty_value(app, words)) {
    return report(unparsed, *error);
  }
  std::vector<std::string> rest(words.rbegin(), words.rend());  // as App::parse() wants it
  if (!rest.empty()) {
    rest.pop_back();
  }
  try {
    app.parse(rest);
  } catch (const CLI::ParseError& error) {
    return error.get_exit_code() == 0 ? app.exit(error) : report(unparsed, usage_error(app, error));
  }
  if (const auto error = check_globals(app)) {
    return report(unparsed, *error);
  }
  return action ? action() : kUsage;
}

}  // namespace trireme::cli
