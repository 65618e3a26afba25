// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "command.hpp"
#include "diagnostics.hpp"
#include "table.hpp"
#include "trireme/base/file.hpp"

namespace trireme::cli {
namespace {

/// Reads additional files; their [[test]] entries are run against the policy of the directory.
Result<std::vector<config::Source>> read_sources(const std::vector<std::string>& files) {
  std::vector<config::Source> sources;
  for (const auto& file : files) {
    auto content = read_file(file);
    if (!content) {
      return tl::unexpected(content.error());
    }
    sources.push_back({file, std::move(*content)});
  }
  return sources;
}

int test(const Globals& globals, const std::vector<std::string>& files) {
  const auto more = read_sources(files);
  if (!more) {
    return report(globals, more.error());
  }
  const auto configuration = config::load_policy(configuration_dir(globals), *more);
  const auto failed =
      std::count_if(configuration.diagnostics.begin(), configuration.diagnostics.end(), is_error);
  if (globals.json) {
    print_json({{"passed", configuration.valid()},
                {"tests", configuration.policy.tests.size()},
                {"failures", failed},
                {"diagnostics", to_json(configuration.diagnostics)}});
    return configuration.valid() ? kYes : kNo;
  }
  for (const auto& diagnostic : configuration.diagnostics) {
    fmt::print("{}\n", fit(printable(diagnostic.text()), 4));
  }
  const std::size_t count = configuration.policy.tests.size();
  fmt::print(
      "{} {}, {}\n", count, count == 1 ? "test" : "tests",
      failed == 0 ? "all passed" : fmt::format("{} {}", failed, failed == 1 ? "error" : "errors"));
  return configuration.valid() ? kYes : kNo;
}

}  // namespace

void add_policy_test(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command = add_command(parent, globals, "test", "Run the [[test]] entries of a policy");
  const auto files = std::make_shared<std::vector<std::string>>();
  command->add_option("FILE", *files, "additional tests for the policy of the directory");
  command->callback(
      [&globals, &action, files] { action = [&globals, files] { return test(globals, *files); }; });
}

}  // namespace trireme::cli
