// SPDX-License-Identifier: Apache-2.0
#include "usage.hpp"

#include <algorithm>
#include <cstdio>

#include "command.hpp"
#include "table.hpp"
#include "trireme/base/nearest.hpp"

namespace trireme::cli {
namespace {

std::vector<std::string> subcommands_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* each :
       app.get_subcommands([](const CLI::App* sub) { return !sub->get_group().empty(); })) {
    names.push_back(each->get_name());
  }
  return names;
}

std::vector<std::string> options_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options([](const CLI::Option*) { return true; })) {
    for (const std::string& name : option->get_lnames()) {
      names.push_back("--" + name);
    }
    for (const std::string& name : option->get_snames()) {
      names.push_back("-" + name);
    }
  }
  return names;
}

std::string joined_words(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    text += (text.empty() ? "" : ", ") + word;
  }
  return text;
}

/// Names the invalid word and the nearest valid one; else returns CLI11's own message.
std::string message_for(const CLI::App& app, const std::string& path,
                        const std::vector<std::string>& rest, const CLI::ParseError& error) {
  const auto subcommands = subcommands_of(app);
  if (!rest.empty() && rest.front().starts_with('-') && rest.front() != "--") {
    const std::string written = rest.front().substr(0, rest.front().find('='));
    if (app.get_option_no_throw(written) != nullptr) {
      return "option '" + written + "' must come after '" + path + "'";
    }
    return "unknown option '" + written + "' of '" + path + "'; " +
           did_you_mean(written, options_of(app), "'" + path + " --help' lists them");
  }
  if (rest.empty() && error.get_name() == "ArgumentMismatch") {
    return error.what();  // an option without its value
  }
  if (!subcommands.empty()) {
    return rest.empty() ? "missing command: one of " + joined_words(subcommands)
                        : "unknown command '" + rest.front() + "'; " +
                              did_you_mean(rest.front(), subcommands,
                                           "available: " + joined_words(subcommands));
  }
  // If CLI11 throws inside a subcommand, the argument is only in its message, not in `rest`.
  constexpr std::string_view kUnexpected = "The following argument was not expected: ";
  if (const std::string said = error.what(); said.starts_with(kUnexpected)) {
    return "unexpected argument '" + said.substr(kUnexpected.size()) + "'";
  }
  if (!rest.empty() && error.get_name() == "ExtrasError") {
    return "unexpected argument '" + rest.front() + "'";
  }
  return error.what();
}

/// The program and the chosen subcommands, outermost first.
std::vector<const CLI::App*> chosen(const CLI::App& app) {
  std::vector<const CLI::App*> commands = {&app};
  for (auto next = app.get_subcommands(); !next.empty();
       next = commands.back()->get_subcommands()) {
    commands.push_back(next.front());
  }
  return commands;
}

std::string path_of(const std::vector<const CLI::App*>& commands) {
  std::string path;
  for (const CLI::App* command : commands) {
    path += (path.empty() ? "" : " ") + command->get_name();
  }
  return path;
}

int wrong_usage(const std::string& message, const std::string& path) {
  std::fprintf(stderr, "trirectl: %s\n", printable(message).c_str());
  std::fprintf(stderr, "trirectl: hint: see '%s --help'\n", path.c_str());
  return kUsage;
}

}  // namespace

int complain(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) {
    return app.exit(error) == 0 ? kYes : kUsage;
  }
  const auto commands = chosen(app);
  const std::string path = path_of(commands);
  return wrong_usage(message_for(*commands.back(), path, app.remaining(true), error), path);
}

int check_globals(const CLI::App& app) {
  const auto commands = chosen(app);
  for (const CLI::App* outer : commands) {
    for (const CLI::Option* option : outer->get_options()) {
      const std::string name = option->get_name();
      if (option->count() > 0 && commands.back()->get_option_no_throw(name) == nullptr) {
        const std::string path = path_of(commands);
        return wrong_usage("'" + path + "' has no option '" + name + "'", path);
      }
    }
  }
  return kYes;
}

}  // namespace trireme::cli
