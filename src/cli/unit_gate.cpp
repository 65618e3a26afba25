#include <memory>

#include "command.hpp"
#include "trireme/control/methods.hpp"

namespace trireme::cli {

void add_unit_gate(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "unit-gate",
                  "Wait until this unit is enforced (for the drop-ins that trireme writes)");
  command->group("");  // of no use by hand: the daemon answers processes of the unit only
  const auto unit = std::make_shared<std::string>();
  command->add_option("UNIT", *unit, "full name of the unit")->required();
  command->callback([&globals, &action, unit] {
    action = [&globals, unit] {
      const auto answer =
          ask(globals, control::method::unit_gate, {{"unit", *unit}}, std::chrono::seconds(60));
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
