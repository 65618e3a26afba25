// SPDX-License-Identifier: Apache-2.0
// trirectl: queries the daemon, and checks policies without it. One file per subcommand.
#include <cstdio>

#include "command.hpp"
#include "trireme/control/instance.hpp"
#include "usage.hpp"

namespace trireme::cli {
namespace {

int run(int argc, char** argv) {
  Globals globals;
  globals.runtime_dir = control::default_runtime_dir();
  Action action;
  CLI::App app("Inspect and check what trireme enforces", "trirectl");
  app.set_version_flag("--version", "trirectl " TRIREME_VERSION);
  app.require_subcommand(1);
  app.failure_message(CLI::FailureMessage::simple);
  add_globals(app, globals);
  add_status(app, globals, action);
  add_workloads(app, globals, action);
  add_flows(app, globals, action);
  add_rules(app, globals, action);
  add_reload(app, globals, action);
  CLI::App* policy =
      app.add_subcommand("policy", "Check, test, explain, compare, suggest and draw policy");
  policy->require_subcommand(1);
  add_globals(*policy, globals);
  add_policy_check(*policy, globals, action);
  add_policy_test(*policy, globals, action);
  add_policy_explain(*policy, globals, action);
  add_policy_convert(*policy, globals, action);
  add_policy_diff(*policy, globals, action);
  add_policy_suggest(*policy, globals, action);
  add_policy_graph(*policy, globals, action);
  add_pki(app, globals, action);
  add_metrics(app, globals, action);
  add_flush(app, globals, action);
  add_unit_gate(app, globals, action);
  add_words(app, globals, action);
  app.get_formatter()->column_width(24);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return complain(app, error);
  }
  if (const int code = check_globals(app); code != kYes) {
    return code;
  }
  return action ? action() : kUsage;
}

}  // namespace
}  // namespace trireme::cli

int main(int argc, char** argv) {
  try {
    return trireme::cli::run(argc, argv);
  } catch (const std::exception& exception) {
    // nlohmann::json throws if a daemon of another version answers with a key of another type.
    std::fprintf(stderr, "trirectl: %s\n", exception.what());
    return trireme::cli::kNo;
  }
}
