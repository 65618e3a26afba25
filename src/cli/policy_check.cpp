// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "command.hpp"
#include "diagnostics.hpp"
#include "table.hpp"

namespace trireme::cli {
namespace {

int check(const Globals& globals, const std::string& directory) {
  // What the daemon reads needs its keys; a directory that is kept elsewhere may have none.
  const auto configuration = config::check(directory, is_configuration_dir(globals, directory)
                                                          ? config::KeyFiles::required
                                                          : config::KeyFiles::optional);
  const bool valid = configuration.valid();
  if (globals.json) {
    print_json({{"valid", valid},
                {"directory", directory},
                {"rules", configuration.policy.rules.size()},
                {"tests", configuration.policy.tests.size()},
                {"diagnostics", to_json(configuration.diagnostics)}});
    return valid ? kYes : kNo;
  }
  for (const auto& diagnostic : configuration.diagnostics) {
    fmt::print("{}\n", fit(printable(diagnostic.text()), 4));
  }
  const auto errors =
      std::count_if(configuration.diagnostics.begin(), configuration.diagnostics.end(), is_error);
  if (valid) {
    fmt::print("{}: valid, {} rules, {} tests passed\n", directory,
               configuration.policy.rules.size(), configuration.policy.tests.size());
    return kYes;
  }
  fmt::print("{}: not valid, {} {}\n", directory, errors, errors == 1 ? "error" : "errors");
  return kNo;
}

}  // namespace

void add_policy_check(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command = add_command(parent, globals, "check",
                                  "Check a configuration directory: every problem at once");
  const auto directory = std::make_shared<std::string>();
  command->add_option("DIR", *directory, "directory to check (the daemon's, or /etc/trireme)");
  command->callback([&globals, &action, directory] {
    action = [&globals, directory] {
      return check(globals, directory->empty() ? configuration_dir(globals) : *directory);
    };
  });
}

}  // namespace trireme::cli
