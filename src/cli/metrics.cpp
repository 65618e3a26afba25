// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "command.hpp"
#include "trireme/control/methods.hpp"

namespace trireme::cli {

void add_metrics(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "metrics", "Print the daemon's counters in Prometheus format");
  command->callback([&globals, &action] {
    action = [&globals] {
      return print_answer(globals, control::method::metrics, nlohmann::json::object(),
                          [](const nlohmann::json& answer) {
                            std::fputs(answer.value("text", "").c_str(), stdout);
                          });
    };
  });
}

}  // namespace trireme::cli
