// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>

#include "command.hpp"
#include "table.hpp"
#include "trireme/control/methods.hpp"

namespace trireme::cli {

/// For shell completion: prints one word per line, and nothing if the daemon does not answer.
void add_words(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command = add_command(parent, globals, "words",
                                  "Print names, labels and networks for shell completion");
  command->group("");
  const auto kinds = std::make_shared<std::vector<std::string>>();
  command->add_option("KIND", *kinds, "workloads, labels, networks, held")
      ->check(CLI::IsMember({"workloads", "labels", "networks", "held"}));
  command->callback([&globals, &action, kinds] {
    action = [&globals, kinds] {
      const auto words =
          ask(globals, control::method::words, nlohmann::json::object(), std::chrono::seconds(2));
      if (!words) {
        return kNo;
      }
      for (const std::string& kind : *kinds) {
        for (const auto& word : words->value(kind, nlohmann::json::array())) {
          fmt::print("{}\n", printable(word.get<std::string>()));
        }
      }
      return kYes;
    };
  });
}

}  // namespace trireme::cli
