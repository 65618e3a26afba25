// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <set>

#include "command.hpp"
#include "trireme/control/methods.hpp"
#include "trireme/systemd/socket_holders.hpp"

namespace trireme::cli {

void add_unit_gate(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command = add_command(parent, globals, "unit-gate",
                                  "Wait until a unit is enforced (for drop-ins of trireme)");
  command->group("");  // hidden: the daemon answers only processes of the unit
  const auto unit = std::make_shared<std::string>();
  command->add_option("UNIT", *unit, "full name of the unit")->required();
  command->callback([&globals, &action, unit] {
    action = [&globals, unit] {
      const auto call = [&globals](const nlohmann::json& params) {
        return ask(globals, control::method::unit_gate, params, std::chrono::seconds(60));
      };
      auto answer = call({{"unit", *unit}});
      if (answer && answer->contains("kept")) {
        answer = call({{"unit", *unit},
                       {"alone", systemd::held_by_init_alone(
                                     answer->at("kept").get<std::set<std::uint32_t>>())}});
      }
      if (!answer) {
        return report(globals, answer.error());
      }
      if (globals.json) {
        print_json(*answer);
      }
      return kYes;
    };
  });
}

}  // namespace trireme::cli
