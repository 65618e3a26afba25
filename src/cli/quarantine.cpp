// SPDX-License-Identifier: Apache-2.0
// trirectl quarantine, trirectl release.
#include <fmt/format.h>

#include <memory>

#include "command.hpp"
#include "table.hpp"
#include "trireme/control/methods.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

void print_quarantined(const json& workload) {
  const std::string name = printable(workload.value("name", "?"));
  fmt::print("{}", fit(fmt::format("{0} is quarantined: all its traffic is dropped until "
                                   "'trirectl release {0}'\n",
                                   name),
                       4));
  // Acknowledged ones too: what is accepted of a service is not accepted of an intruder.
  for (const char* key : {"warnings", "acknowledged"}) {
    for (const auto& warning : workload.value(key, json::array())) {
      fmt::print("{}", fit(fmt::format("warning: {}\n", printable(warning.get<std::string>())), 4));
    }
  }
}

void print_released(const std::string& name, const json& workload) {
  const std::string shown = printable(name);
  if (workload.is_null()) {
    fmt::print("{} is released; no workload has this name now\n", shown);
  } else if (workload.value("state", "") == "quarantined") {
    fmt::print("{}",
               fit(fmt::format("{} is released, but stays quarantined for another reason: {}\n",
                               shown, printable(workload.value("reason", "?"))),
                   4));
  } else {
    fmt::print("{} is released: {}\n", shown, workload.value("state", "?"));
  }
}

}  // namespace

void add_quarantine(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "quarantine", "Drop all traffic of a live workload");
  struct Order {
    std::string name;
    std::string reason;
  };
  const auto order = std::make_shared<Order>();
  command->add_option("NAME", order->name, "name of the workload")->required();
  command->add_option("--reason", order->reason, "shown with the workload and in the log")
      ->type_name("TEXT");
  command->callback([&globals, &action, order] {
    action = [&globals, order] {
      return print_answer(globals, control::method::quarantine,
                          {{"name", order->name}, {"reason", order->reason}}, print_quarantined);
    };
  });
}

void add_release(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command = add_command(parent, globals, "release", "End a quarantine that was ordered");
  const auto name = std::make_shared<std::string>();
  command->add_option("NAME", *name, "name of the workload")->required();
  command->callback([&globals, &action, name] {
    action = [&globals, name] {
      return print_answer(globals, control::method::release, {{"name", *name}},
                          [&name](const json& workload) { print_released(*name, workload); });
    };
  });
}

}  // namespace trireme::cli
