// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "command.hpp"
#include "diagnostics.hpp"
#include "trireme/base/counted.hpp"
#include "trireme/base/printable.hpp"

namespace trireme::cli {
namespace {

struct CheckOptions {
  std::string directory;
  std::string format = "text";
};

int check(const Globals& globals, const CheckOptions& options) {
  const std::string directory =
      options.directory.empty() ? configuration_dir(globals) : options.directory;
  // The daemon's own directory must have readable key files. Another one, such as a policy
  // repository, may have none, and its units may be those of other hosts.
  const bool is_daemons = is_configuration_dir(globals, directory);
  auto configuration = config::check(
      directory, is_daemons ? config::KeyFiles::required : config::KeyFiles::optional);
  const bool valid = configuration.valid();
  if (is_daemons) {
    std::ranges::move(unit_warnings(configuration.host),
                      std::back_inserter(configuration.diagnostics));
  }
  if (wants_json(globals, options.format)) {
    print_json({{"valid", valid},
                {"directory", directory},
                {"rules", configuration.policy.rules.size()},
                {"tests", configuration.policy.tests.size()},
                {"diagnostics", to_json(configuration.diagnostics)}});
    return valid ? kYes : kNo;
  }
  print_diagnostics(directory, configuration.diagnostics, options.format);
  if (options.format == "github") {
    return valid ? kYes : kNo;
  }
  const std::string shown = printable(directory);
  const auto errors =
      std::count_if(configuration.diagnostics.begin(), configuration.diagnostics.end(), is_error);
  if (valid) {
    fmt::print("{}: valid, {}, {} passed\n", shown,
               counted(configuration.policy.rules.size(), "rule"),
               counted(configuration.policy.tests.size(), "test"));
    return kYes;
  }
  fmt::print("{}: invalid, {}\n", shown, counted(static_cast<std::uint64_t>(errors), "error"));
  return kNo;
}

}  // namespace

void add_policy_check(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "check", "Report every problem of a configuration directory");
  const auto options = std::make_shared<CheckOptions>();
  command->add_option("DIR", options->directory, "directory to check (default: the daemon's)");
  add_format(*command, options->format);
  command->callback([&globals, &action, options] {
    action = [&globals, options] { return check(globals, *options); };
  });
}

}  // namespace trireme::cli
