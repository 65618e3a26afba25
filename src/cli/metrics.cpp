// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "command.hpp"
#include "trireme/control/methods.hpp"

namespace trireme::cli {

void add_metrics(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "metrics", "Print the daemon's counters in Prometheus format");
  command->callback([&] {
    action = [&] {
      const auto answer = ask(globals, control::method::metrics, nlohmann::json::object());
      if (!answer) {
        return report(globals, answer.error());
      }
      if (globals.json) {
        print_json(*answer);
      } else {
        std::fputs(answer->value("text", "").c_str(), stdout);
      }
      return kYes;
    };
  });
}

}  // namespace trireme::cli
