// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "command.hpp"
#include "diagnostics.hpp"
#include "loaded.hpp"
#include "trireme/base/counted.hpp"
#include "trireme/base/printable.hpp"
#include "trireme/config/lint.hpp"

namespace trireme::cli {
namespace {

struct LintOptions {
  std::string directory;
  std::string format = "text";
};

/// The label sets of the workloads that exist now. nullopt if the daemon does not answer.
std::optional<std::vector<policy::LabelSet>> present_labels(const Globals& globals) {
  const auto parties = present_parties(globals);
  if (!parties) {
    return std::nullopt;
  }
  std::vector<policy::LabelSet> labels;
  for (const policy::Party& party : *parties) {
    labels.push_back(party.labels);
  }
  return labels;
}

int lint(const Globals& globals, const LintOptions& options) {
  const std::string directory =
      options.directory.empty() ? configuration_dir(globals) : options.directory;
  const auto configuration = config::check(directory, config::KeyFiles::optional);
  const auto present = present_labels(globals);
  auto findings = config::lint(configuration, present.value_or(std::vector<policy::LabelSet>()));
  if (is_configuration_dir(globals, directory)) {  // a repository has the units of other hosts
    std::ranges::move(unit_warnings(configuration.host), std::back_inserter(findings));
  }
  const int code = findings.empty() ? kYes : kNo;
  if (wants_json(globals, options.format)) {
    print_json({{"directory", directory},
                {"workloads_known", present.has_value()},
                {"findings", to_json(findings)}});
    return code;
  }
  print_diagnostics(directory, findings, options.format);
  if (options.format == "text") {
    fmt::print("{}: {}{}\n", printable(directory), counted(findings.size(), "finding"),
               present ? "" : "; the labels of running workloads are not known here");
  }
  return code;
}

}  // namespace

void add_policy_lint(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "lint", "Report what is valid but probably not meant");
  const auto options = std::make_shared<LintOptions>();
  command->add_option("DIR", options->directory, "directory to check (default: the daemon's)");
  add_format(*command, options->format);
  command->callback([&globals, &action, options] {
    action = [&globals, options] { return lint(globals, *options); };
  });
}

}  // namespace trireme::cli
