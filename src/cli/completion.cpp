// SPDX-License-Identifier: Apache-2.0
#include "completion.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <span>
#include <string_view>

#include "option_word.hpp"
#include "table.hpp"
#include "trirun_options.hpp"
#include "usage.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

/// What comes before the word that is completed.
struct Line {
  const CLI::App* command = nullptr;
  std::set<const CLI::Option*> options;  // of the command
  std::vector<std::string> arguments;    // of the command, without options
  const CLI::Option* awaiting = nullptr;
  bool only_arguments = false;  // after "--"
  std::string runtime_dir;
};

Line read_line(const CLI::App& app, std::span<const std::string> words) {
  Line line;
  line.command = &app;
  const auto note_value = [&line](const CLI::Option* option, const std::string& value) {
    if (option->get_name() == "--runtime-dir") {
      line.runtime_dir = value;
    }
  };
  for (const std::string& word : words) {
    if (line.awaiting != nullptr) {
      note_value(line.awaiting, word);
      line.awaiting = nullptr;
    } else if (line.only_arguments || word.size() < 2 || word.front() != '-') {
      const auto commands = visible_commands(*line.command);
      const auto found = std::ranges::find(commands, word, &CLI::App::get_name);
      if (found == commands.end() || line.only_arguments) {
        line.arguments.push_back(word);
        continue;
      }
      line.command = *found;
      line.options.clear();
      line.arguments.clear();
    } else if (word == "--") {
      line.only_arguments = true;
    } else {
      const OptionWord option = read_option(*line.command, word);
      line.options.insert(option.option);
      line.awaiting = option.awaits_value ? option.option : nullptr;
      if (option.value_at > 0) {
        note_value(option.option, word.substr(option.value_at));
      }
    }
  }
  return line;
}

/// True if no shell reads more than text in the word where it is unquoted. Values of labels can
/// hold any printable character and come from others, and bash puts a word into the command line as
/// it is: "app=$(reboot)" would run. "\x2d", as systemd writes a dash in the names of units, is
/// safe: the functions of the shells quote the backslash, and without quotes it would only be lost.
bool is_safe_in_shells(std::string_view word) {
  const auto is_hexadecimal = [word](std::size_t at) {
    return at < word.size() &&
           std::string_view("0123456789abcdefABCDEF").find(word[at]) != std::string_view::npos;
  };
  for (std::size_t at = 0; at < word.size(); ++at) {
    const char c = word[at];
    const bool is_escape = c == '\\' && word.substr(at + 1, 1) == "x" && is_hexadecimal(at + 2) &&
                           is_hexadecimal(at + 3);
    const bool is_alphanumeric =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!is_escape && !is_alphanumeric && static_cast<unsigned char>(c) < 0x80U &&
        std::string_view("._-/=:@+%,").find(c) == std::string_view::npos) {
      return false;
    }
  }
  return true;
}

/// The words of "FORMAT:{dot,svg}", the form in which CLI::IsMember and one_of() show them.
std::vector<std::string> choices(const std::string& type) {
  const std::size_t begin = type.find('{');
  const std::size_t end = type.rfind('}');
  return begin == std::string::npos || end == std::string::npos || end < begin
             ? std::vector<std::string>()
             : CLI::detail::split(type.substr(begin + 1, end - begin - 1), ',');
}

class Values {
 public:
  Values(const Line& line, const KnownNames& names) : line_(line), names_(names) {}

  /// Values of an option or argument. `before`: what the word has in front of the value.
  [[nodiscard]] Completion of(const CLI::Option& option, const std::string& before,
                              const std::string& value) const {
    using Kind = Completion::Kind;
    const std::string type =
        option.get_positional() ? option.get_name(true) : option.get_type_name();
    const std::string name = type.substr(0, type.find(':'));
    for (const auto& [known, kind] : {std::pair{"DIR", Kind::directories},
                                      {"FILE", Kind::files},
                                      {"USER", Kind::users},
                                      {"GROUP", Kind::groups}}) {
      if (name == known) {
        return {.kind = kind, .skip = before.size()};
      }
    }
    // Values in a list: app=web,env=prod; allow,audit.
    const bool list = name == "END" || name == "MATCH" || option.get_delimiter() == ',';
    const std::size_t comma = list ? value.rfind(',') : std::string::npos;
    const std::string kept =
        before + (comma == std::string::npos ? "" : value.substr(0, comma + 1));
    Completion completion;
    for (const std::string& word : words_for(option, name, comma != std::string::npos)) {
      completion.words.push_back({kept + word});
    }
    return completion;
  }

 private:
  [[nodiscard]] std::vector<std::string> words_for(const CLI::Option& option,
                                                   const std::string& name, bool further) const {
    if (name == "END" || name == "MATCH") {
      return further ? known({"labels"}) : ends();
    }
    if (name == "KEY=VALUE") {
      return known({"labels"});
    }
    if (name == "NAME" || name == "WORKLOAD") {
      return known({line_.command->get_name() == "release" ? "held" : "workloads"});
    }
    if (name == "NAME=VALUE") {
      // Properties that every user can set.
      return {"CPUQuota=",   "CPUWeight=", "Description=", "IOWeight=",
              "MemoryHigh=", "MemoryMax=", "TasksMax=",    "RuntimeMaxSec="};
    }
    if (name == "PORT") {
      return {"tcp/", "udp/", "icmp", "icmpv6"};
    }
    if (name == "TIME") {
      return {"15m", "1h", "1d", "7d"};
    }
    if (name == "COMMAND") {
      return commands();
    }
    return choices(option.get_type_name());
  }

  [[nodiscard]] std::vector<std::string> ends() const {
    std::vector<std::string> words = {"@host", "@world"};
    std::ranges::copy(known({"workloads", "labels", "networks"}), std::back_inserter(words));
    return words;
  }

  /// Names of the daemon, without those that a shell could interpret.
  [[nodiscard]] std::vector<std::string> known(const std::vector<const char*>& kinds) const {
    const json answer = names_(line_.runtime_dir);
    std::vector<std::string> words;
    for (const char* kind : kinds) {
      for (const json& each : answer.value(kind, json::array())) {
        const auto word = each.get<std::string>();
        if (is_safe_in_shells(word) && printable(word) == word) {
          words.push_back(word);
        }
      }
    }
    return words;
  }

  /// The commands below the one that the arguments name.
  [[nodiscard]] std::vector<std::string> commands() const {
    std::vector<std::string> words;
    if (const auto command = find_command(program_of(*line_.command), line_.arguments)) {
      for (const CLI::App* each : visible_commands(**command)) {
        words.push_back(each->get_name());
      }
    }
    return words;
  }

  const Line& line_;
  const KnownNames& names_;
};

/// The argument that comes after those that are given; nullptr if there is none.
const CLI::Option* next_argument(const Line& line) {
  std::size_t given = line.arguments.size();
  for (const CLI::Option* option : line.command->get_options()) {
    if (!option->get_positional()) {
      continue;
    }
    const auto most = static_cast<std::size_t>(option->get_items_expected_max());
    if (given < most) {
      return option;
    }
    given -= most;
  }
  return nullptr;
}

std::vector<Completion::Word> options_of(const Line& line) {
  std::vector<Completion::Word> words;
  for (const CLI::Option* option : line.command->get_options()) {
    const bool repeatable = option->get_items_expected_max() > 1;
    if (option->get_positional() || option->get_group().empty() ||
        (line.options.contains(option) && !repeatable)) {
      continue;
    }
    for (const std::string& name : option->get_lnames()) {
      words.push_back({"--" + name, option->get_description()});
    }
    for (const std::string& name : option->get_snames()) {
      words.push_back({"-" + name, option->get_description()});
    }
  }
  return words;
}

}  // namespace

std::string Completion::text() const {
  static constexpr std::array<const char*, 6> kKinds = {"words", "files",  "directories",
                                                        "users", "groups", "command"};
  std::string text = fmt::format("{} {}\n", kKinds.at(static_cast<std::size_t>(kind)), skip);
  for (const Word& word : words) {
    std::string description = word.description;
    std::ranges::replace(description, '\n', ' ');
    text += fmt::format("{}\t{}\n", word.text, printable(description));
  }
  return text;
}

Completion complete(const CLI::App& app, const std::vector<std::string>& words,
                    const KnownNames& names) {
  const std::string last = words.empty() ? "" : words.back();
  const Line line = read_line(app, std::span(words).first(words.empty() ? 0 : words.size() - 1));
  const Values values(line, names);
  if (line.awaiting != nullptr) {
    return values.of(*line.awaiting, "", last);
  }
  if (last.starts_with('-') && !line.only_arguments) {
    const OptionWord option = last.size() < 2 ? OptionWord() : read_option(*line.command, last);
    return option.value_at > 0 ? values.of(*option.option, last.substr(0, option.value_at),
                                           last.substr(option.value_at))
                               : Completion{.words = options_of(line)};
  }
  if (const auto commands = visible_commands(*line.command); !commands.empty()) {
    Completion completion;
    for (const CLI::App* command : commands) {
      completion.words.push_back({command->get_name(), command->get_description()});
    }
    return completion;
  }
  const CLI::Option* argument = next_argument(line);
  return argument != nullptr ? values.of(*argument, "", last)
                             : Completion{.words = options_of(line)};
}

Completion complete_trirun(const std::vector<std::string>& words, const KnownNames& names) {
  CLI::App app("", "trirun");
  TrirunValues values;
  add_trirun_options(app, values);
  const std::size_t before = words.empty() ? 0 : words.size() - 1;
  const OptionPart options = option_part(app, std::span(words).first(before));
  const bool at_command =
      options.words == before && !words.empty() && !words.back().starts_with('-');
  if (options.ended || at_command) {
    return {.kind = Completion::Kind::command, .skip = options.words + 1};
  }
  return complete(app, words, names);
}

}  // namespace trireme::cli
