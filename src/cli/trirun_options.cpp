// SPDX-License-Identifier: Apache-2.0
#include "trirun_options.hpp"

#include <algorithm>
#include <memory>

#include "option_word.hpp"
#include "trireme/control/instance.hpp"
#include "usage.hpp"
#include "values.hpp"

namespace trireme::cli {
namespace {

/// CLI11 does not know of the command, see parse_trirun().
class TrirunHelp : public CLI::Formatter {
 public:
  [[nodiscard]] std::string make_usage(const CLI::App* /*app*/,
                                       std::string /*name*/) const override {
    return "\nUsage: trirun --label KEY=VALUE [OPTION...] [--] COMMAND [ARG...]\n";
  }
};

Status add_label(TrirunOptions& options, const std::string& text) {
  const auto label = policy::parse_label(text);
  if (!label) {
    return tl::unexpected(label.error());
  }
  if (options.labels.find(label->key) != nullptr) {
    return fail("label '" + label->key + "' is given more than once", "give each label key once");
  }
  return options.labels.set(label->key, label->value);
}

/// A value that was not given is empty: not_empty() rejects an empty one that was.
std::optional<std::string> given(const std::string& value) {
  return value.empty() ? std::nullopt : std::optional(value);
}

Result<TrirunOptions> options_of(const TrirunValues& values) {
  TrirunOptions options;
  for (const std::string& label : values.labels) {
    if (const Status added = add_label(options, label); !added) {
      return tl::unexpected(added.error());
    }
  }
  options.properties = values.properties;
  if (!values.slice.empty()) {
    options.properties.push_back("Slice=" + values.slice);
  }
  options.unit = values.unit;
  options.user = given(values.user);
  options.group = given(values.group);
  options.runtime_dir = values.runtime_dir;
  return options;
}

}  // namespace

void add_trirun_options(CLI::App& app, TrirunValues& values) {
  values.runtime_dir = control::default_runtime_dir();
  app.formatter(std::make_shared<TrirunHelp>());
  app.get_formatter()->column_width(29);
  app.set_version_flag("--version", "trirun " TRIREME_VERSION, "print the version");
  app.set_help_flag("-h,--help", "print this help");
  app.add_option("-l,--label", values.labels, "a label of the workload; at least one")
      ->allow_extra_args(false)
      ->type_name("KEY=VALUE")
      ->check(label());
  app.add_option("-p,--property", values.properties, "a property of the scope, as for systemd-run")
      ->allow_extra_args(false)
      ->type_name("NAME=VALUE")
      ->check(property());
  const auto add = [&app](const char* name, std::string& value, const char* type,
                          const char* description) {
    app.add_option(name, value, description)->type_name(type)->take_last()->check(not_empty());
  };
  add("--unit", values.unit, "UNIT", "the scope's name");
  add("--slice", values.slice, "SLICE", "the scope's slice, below trireme.slice");
  add("--uid", values.user, "USER", "run as this user, with its groups");
  add("--gid", values.group, "GROUP", "run with this group");
  add("--runtime-dir", values.runtime_dir, "DIR",
      "runtime directory of triremed (default:\n$TRIREME_RUNTIME_DIR, else /run/trireme)");
  app.footer(
      "Exit code: that of COMMAND; 125 launch refused, triremed not reachable, or\n"
      "invalid usage; 126 COMMAND cannot be executed; 127 COMMAND not found. COMMAND\n"
      "never runs unprotected.");
}

Result<TrirunOptions> parse_trirun(int argc, char** argv) {
  CLI::App app(
      "Runs COMMAND as a workload in a scope of its own, under the policy for its\n"
      "labels from its first instruction. Terminal, environment, signals and exit code\n"
      "are those of COMMAND.",
      "trirun");
  TrirunValues values;
  add_trirun_options(app, values);
  // CLI11 gets only the options: it would take options of the command for trirun's, and change
  // words such as [a,b].
  const std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  const OptionPart options = option_part(app, words);
  const std::size_t count = std::min(options.words, words.size());
  const bool marked = options.ended && count > 0 && words[count - 1] == "--";
  std::vector<std::string> parsed(
      words.begin(), words.begin() + static_cast<std::ptrdiff_t>(marked ? count - 1 : count));
  if (const auto error = find_empty_value(app, parsed)) {
    return tl::unexpected(*error);
  }
  std::reverse(parsed.begin(), parsed.end());  // as App::parse() wants it
  try {
    app.parse(parsed);
  } catch (const CLI::CallForHelp&) {
    TrirunOptions result;
    result.text = app.help();
    return result;
  } catch (const CLI::CallForVersion& version) {
    TrirunOptions result;
    result.text = std::string(version.what()) + "\n";
    return result;
  } catch (const CLI::ParseError& error) {
    return tl::unexpected(usage_error(app, error));
  }
  auto result = options_of(values);
  if (!result) {
    return result;
  }
  if (result->labels.empty()) {
    return fail_usage(
        {"at least one --label is required", "for example: trirun --label app=web -- COMMAND"});
  }
  if (count == words.size()) {
    return fail_usage({"missing command", "see 'trirun --help'"});
  }
  result->command.assign(argv + 1 + count, argv + argc);
  result->command.push_back(nullptr);
  return result;
}

}  // namespace trireme::cli
