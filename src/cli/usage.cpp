// SPDX-License-Identifier: Apache-2.0
#include "usage.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "table.hpp"
#include "trireme/base/nearest.hpp"

namespace trireme::cli {
namespace {

std::vector<std::string> names_of(const std::vector<const CLI::App*>& commands) {
  std::vector<std::string> names;
  for (const CLI::App* command : commands) {
    names.push_back(command->get_name());
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

/// The command of this name that is nearest to the program itself; nullptr if there is none.
const CLI::App* find_anywhere(const CLI::App& app, const std::string& name) {
  const auto commands = visible_commands(app);
  for (const CLI::App* command : commands) {
    if (command->get_name() == name) {
      return command;
    }
  }
  for (const CLI::App* command : commands) {
    if (const CLI::App* found = find_anywhere(*command, name); found != nullptr) {
      return found;
    }
  }
  return nullptr;
}

std::string unknown_command(const CLI::App& app, const std::string& word) {
  if (const CLI::App* elsewhere = find_anywhere(program_of(app), word); elsewhere != nullptr) {
    return fmt::format("unknown command '{}'; the command is '{}'", word, path_of(*elsewhere));
  }
  const auto names = names_of(visible_commands(app));
  return fmt::format("unknown command '{}'; {}", word,
                     did_you_mean(word, names, "available: " + joined_words(names)));
}

/// CLI11's message about an option, in our words.
std::string option_message(const CLI::ParseError& error) {
  const std::string text = error.what();
  const auto around = [&text](std::string_view middle) {
    const std::size_t at = text.find(middle);
    return at == std::string::npos
               ? std::nullopt
               : std::optional(std::pair(text.substr(0, at), text.substr(at + middle.size())));
  };
  if (const auto missing = around(": 1 required ")) {
    return fmt::format("option '{}' needs a value", missing->first);
  }
  if (const auto repeated = around(": At Most 1 required but received ")) {
    return fmt::format("option '{}' can be given once", repeated->first);
  }
  if (const auto exclusive = around(" excludes ")) {
    return fmt::format("options '{}' and '{}' cannot be combined", exclusive->first,
                       exclusive->second);
  }
  if (const auto converted = around("Could not convert: ")) {
    const std::size_t equals = converted->second.find(" = ");
    if (equals != std::string::npos) {
      return fmt::format("{}: invalid number '{}'", converted->second.substr(0, equals),
                         converted->second.substr(equals + 3));
    }
  }
  return text;
}

/// Names the invalid word and the nearest valid one; else returns CLI11's own message.
std::string message_for(const CLI::App& app, const std::vector<std::string>& rest,
                        const CLI::ParseError& error) {
  const std::string path = path_of(app);
  if (!rest.empty() && rest.front().starts_with('-') && rest.front() != "--") {
    const std::string written = rest.front().substr(0, rest.front().find('='));
    if (app.get_option_no_throw(written) != nullptr) {
      return "option '" + written + "' must come after '" + path + "'";
    }
    return "unknown option '" + written + "' of '" + path + "'; " +
           did_you_mean(written, options_of(app), "'" + path + " --help' lists them");
  }
  if (rest.empty() && error.get_name() == "ArgumentMismatch") {
    return option_message(error);
  }
  if (const auto commands = names_of(visible_commands(app)); !commands.empty()) {
    return rest.empty() ? "missing command: one of " + joined_words(commands)
                        : unknown_command(app, rest.front());
  }
  // If CLI11 throws inside a subcommand, the argument is only in its message, not in `rest`.
  constexpr std::string_view kUnexpected = "The following argument was not expected: ";
  if (const std::string text = error.what(); text.starts_with(kUnexpected)) {
    return "unexpected argument '" + text.substr(kUnexpected.size()) + "'";
  }
  if (!rest.empty() && error.get_name() == "ExtrasError") {
    return "unexpected argument '" + rest.front() + "'";
  }
  return option_message(error);
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

Error wrong_usage(const std::string& message, const CLI::App& command) {
  return {.message = printable(message),
          .hint = fmt::format("see '{} --help'", path_of(command)),
          .usage = true};
}

}  // namespace

Error usage_error(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& command = *chosen(app).back();
  return wrong_usage(message_for(command, app.remaining(true), error), command);
}

std::optional<Error> find_empty_value(const CLI::App& app, std::span<const std::string> words) {
  for (const std::string& word : words) {
    if (word == "--") {
      break;
    }
    if (word.starts_with("--") && word.find('=') == word.size() - 1) {
      return wrong_usage(fmt::format("option '{}' needs a value", word.substr(0, word.size() - 1)),
                         app);
    }
  }
  return std::nullopt;
}

bool asks_for_json(std::span<const std::string> words) {
  for (std::size_t i = 0; i < words.size() && words[i] != "--"; ++i) {
    const std::string& word = words[i];
    const bool is_short = word.size() > 1 && word[0] == '-' && word[1] != '-';
    if (word == "--json" || word == "--output=json" || (is_short && word.ends_with("ojson"))) {
      return true;
    }
    const bool awaits_format = word == "--output" || (is_short && word.ends_with('o'));
    if (awaits_format && i + 1 < words.size() && words[i + 1] == "json") {
      return true;
    }
  }
  return false;
}

std::optional<Error> check_globals(const CLI::App& app) {
  const auto commands = chosen(app);
  std::string format;
  bool json = false;
  for (const CLI::App* outer : commands) {
    for (const CLI::Option* option : outer->get_options()) {
      const std::string name = option->get_name();
      if (option->count() == 0) {
        continue;
      }
      if (commands.back()->get_option_no_throw(name) == nullptr) {
        return wrong_usage("'" + path_of(*commands.back()) + "' has no option '" + name + "'",
                           *commands.back());
      }
      json = json || name == "--json";
      format = name == "--output" ? option->results().back() : format;
    }
  }
  if (json && !format.empty() && format != "json") {
    return wrong_usage("options '--json' and '-o " + format + "' cannot be combined",
                       *commands.back());
  }
  return std::nullopt;
}

Result<const CLI::App*> find_command(const CLI::App& app, std::span<const std::string> words) {
  const CLI::App* command = &app;
  for (const std::string& word : words) {
    const auto commands = visible_commands(*command);
    const auto found = std::ranges::find(commands, word, &CLI::App::get_name);
    if (found == commands.end()) {
      return tl::unexpected(
          commands.empty()
              ? wrong_usage("'" + path_of(*command) + "' has no command '" + word + "'", *command)
              : wrong_usage(unknown_command(*command, word), *command));
    }
    command = *found;
  }
  return command;
}

std::string error_lines(const std::string& program, const Error& error) {
  std::string text = fmt::format("{}: {}\n", program, printable_lines(error.message));
  if (!error.hint.empty()) {
    text += fmt::format("{}: hint: {}\n", program, printable_lines(error.hint));
  }
  return text;
}

std::vector<const CLI::App*> visible_commands(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* command) { return !command->get_group().empty(); });
}

const CLI::App& program_of(const CLI::App& command) {
  const CLI::App* program = &command;
  while (program->get_parent() != nullptr) {
    program = program->get_parent();
  }
  return *program;
}

std::string path_of(const CLI::App& command) {
  return command.get_parent() == nullptr
             ? command.get_name()
             : path_of(*command.get_parent()) + " " + command.get_name();
}

}  // namespace trireme::cli
