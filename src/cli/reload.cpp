// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "command.hpp"
#include "table.hpp"
#include "trireme/base/counted.hpp"
#include "trireme/control/methods.hpp"

namespace trireme::cli {

void add_reload(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "reload", "Reload the configuration, completely or not at all");
  command->callback([&] {
    action = [&] {
      const auto answer =
          ask(globals, control::method::reload, nlohmann::json::object(), std::chrono::minutes(2));
      if (!answer) {
        return report(globals, answer.error());
      }
      if (globals.json) {
        print_json(*answer);
        return kYes;
      }
      for (const auto& warning : answer->value("warnings", nlohmann::json::array())) {
        fmt::print("{}\n", printable(warning.get<std::string>()));
      }
      fmt::print("reloaded: generation {}, {}\n", answer->value("generation", 0),
                 counted(answer->value("rules", std::uint64_t{0}), "rule"));
      return kYes;
    };
  });
}

}  // namespace trireme::cli
