// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "command.hpp"
#include "flow_line.hpp"
#include "table.hpp"
#include "trireme/control/methods.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

std::string place_text(const json& rule) {
  return rule.contains("file")
             ? fmt::format("{}:{}", rule.value("file", "?"), rule.value("line", 0))
             : "";
}

/// What the rule does, without its name and place: "allow", "deny (audit)"; for the last lines what
/// decides.
std::string action_text(const json& rule) {
  if (!rule.contains("action")) {
    return rule.value("rule", "?");
  }
  return rule.value("action", "?") + (rule.value("mode", "") == "audit" ? " (audit)" : "");
}

void print_rules(const json& rules) {
  const auto clock = [](const json& time, const char* none) {
    return time.is_string() ? seconds_text(time.get<std::string>()) : std::string(none);
  };
  Table table({"HITS", "LAST", "SINCE", "RULE", "NAME", "PLACE"});
  for (const json& rule : rules) {
    table.add({std::to_string(rule.value("hits", std::uint64_t{0})),
               clock(rule.value("last", json()), "never"), clock(rule.value("since", json()), "?"),
               action_text(rule), rule.value("name", ""), place_text(rule)});
  }
  fmt::print("{}", table.render(terminal_width()));
}

}  // namespace

void add_rules(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "rules", "List the rules and how many flows each has decided");
  command->footer(
      "Counts reported flows: denied and audited ones, and samples of allowed ones (see\n"
      "'trirectl flows --all'). A rule keeps its count across reloads unless it changes;\n"
      "a restart of triremed begins again. SINCE says when counting began.");
  command->callback([&globals, &action] {
    action = [&globals] {
      return print_answer(globals, control::method::rules, json::object(), print_rules);
    };
  });
}

}  // namespace trireme::cli
