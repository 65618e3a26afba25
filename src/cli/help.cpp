// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "command.hpp"
#include "usage.hpp"

namespace trireme::cli {
namespace {

int print_help(const Globals& globals, const CLI::App& program,
               const std::vector<std::string>& words) {
  const auto command = find_command(program, words);
  if (!command) {
    return report(globals, command.error());
  }
  // App::help() would print the help of the command that was parsed, which is this one.
  const std::string text = (*command)->get_formatter()->make_help(*command, path_of(**command),
                                                                  CLI::AppFormatMode::Normal);
  std::fputs(text.c_str(), stdout);
  return kYes;
}

}  // namespace

void add_help(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command = parent.add_subcommand("help", "Show the help of a command");
  const auto words = std::make_shared<std::vector<std::string>>();
  command->add_option("COMMAND", *words, "for example: policy diff");
  command->callback([&parent, &globals, &action, words] {
    action = [&parent, &globals, words] { return print_help(globals, parent, *words); };
  });
}

void add_version(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command = parent.add_subcommand("version", "Show the version of trirectl");
  add_output(*command, globals);
  command->callback([&globals, &action] {
    action = [&globals] {
      if (globals.json) {
        print_json({{"version", TRIREME_VERSION}});
      } else {
        fmt::print("trirectl {}\n", TRIREME_VERSION);
      }
      return kYes;
    };
  });
}

}  // namespace trireme::cli
