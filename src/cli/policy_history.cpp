// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "command.hpp"
#include "table.hpp"
#include "trireme/control/methods.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

void print_history(const json& entries) {
  Table table({"TIME", "DIGEST", "IDENTITY", "HOW", "USER", "STATE"});
  for (const json& entry : entries) {
    const json user = entry.value("user", json());
    table.add({entry.value("time", "?"), entry.value("digest", "?").substr(0, 12),
               entry.value("identity_digest", "?").substr(0, 8), entry.value("how", "?"),
               user.is_string() ? user.get<std::string>() : "-",
               entry.value("in_force", false)      ? "in force"
               : entry.value("rolled_back", false) ? "rolled back"
                                                   : ""});
  }
  fmt::print("{}", table.render(terminal_width()));
}

}  // namespace

void add_policy_history(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "history", "List the last 20 configurations that were in force");
  command->callback([&globals, &action] {
    action = [&globals] {
      return print_answer(globals, control::method::history, json::object(), print_history);
    };
  });
}

}  // namespace trireme::cli
