// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "command.hpp"
#include "table.hpp"
#include "trireme/base/counted.hpp"
#include "trireme/control/methods.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

void print_reloaded(const json& answer) {
  for (const auto& warning : answer.value("warnings", json::array())) {
    fmt::print("{}\n", printable(warning.get<std::string>()));
  }
  fmt::print("reloaded: generation {}, {}\n", answer.value("generation", 0),
             counted(answer.value("rules", std::uint64_t{0}), "rule"));
}

}  // namespace

void add_reload(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "reload", "Reload the configuration, completely or not at all");
  command->callback([&globals, &action] {
    action = [&globals] {
      return print_answer(globals, control::method::reload, json::object(), print_reloaded,
                          std::chrono::minutes(2));
    };
  });
}

}  // namespace trireme::cli
