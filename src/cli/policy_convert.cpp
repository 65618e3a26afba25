// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>

#include "command.hpp"
#include "trireme/base/file.hpp"
#include "trireme/base/printable.hpp"
#include "trireme/config/convert.hpp"
#include "trireme/config/loader.hpp"

namespace trireme::cli {
namespace {

int convert(const Globals& globals, const std::string& path) {
  const auto content = read_file(path);
  if (!content) {
    return report(globals, content.error());
  }
  const auto converted = config::convert_original(*content);
  if (!converted) {
    return report(globals, Error{path + ":" + converted.error().message, converted.error().hint});
  }
  // Print only a result that loads: it must be usable without editing.
  if (const auto made = config::parse({{"policy.toml", converted->toml}}, {}); !made.valid()) {
    return report(globals,
                  Error{path + ": cannot be converted: " + made.diagnostics.front().text()});
  }
  if (globals.json) {
    print_json({{"policy", converted->toml}, {"left_out", converted->left_out}});
  } else {
    fmt::print("{}", converted->toml);
  }
  for (const std::string& line : converted->left_out) {
    fmt::print(stderr, "trirectl: not converted: {}\n", printable(line));
  }
  return converted->left_out.empty() ? kYes : kNo;
}

}  // namespace

void add_policy_convert(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "convert", "Convert the original Trireme's policy.json to TOML");
  const auto path = std::make_shared<std::string>();
  command->add_option("FILE", *path, "policy.json of the original Trireme")->required();
  command->callback(
      [&globals, &action, path] { action = [&globals, path] { return convert(globals, *path); }; });
}

}  // namespace trireme::cli
