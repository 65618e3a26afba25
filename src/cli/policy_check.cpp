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
  // The daemon's own directory must have readable key files. Another one, such as a policy
  // repository, may have none.
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
    const std::size_t rules = configuration.policy.rules.size();
    const std::size_t tests = configuration.policy.tests.size();
    fmt::print("{}: valid, {} {}, {} {} passed\n", directory, rules, rules == 1 ? "rule" : "rules",
               tests, tests == 1 ? "test" : "tests");
    return kYes;
  }
  fmt::print("{}: invalid, {} {}\n", directory, errors, errors == 1 ? "error" : "errors");
  return kNo;
}

}  // namespace

void add_policy_check(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "check", "Report every problem of a configuration directory");
  const auto directory = std::make_shared<std::string>();
  command->add_option("DIR", *directory, "directory to check (default: the daemon's)");
  command->callback([&globals, &action, directory] {
    action = [&globals, directory] {
      return check(globals, directory->empty() ? configuration_dir(globals) : *directory);
    };
  });
}

}  // namespace trireme::cli
