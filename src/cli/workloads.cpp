// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "command.hpp"
#include "flow_line.hpp"
#include "table.hpp"
#include "trireme/control/methods.hpp"

namespace trireme::cli {
namespace {

using nlohmann::json;

/// The operator's quarantine order, if the workload's reason is another one; else empty.
std::string order_text(const json& workload) {
  const json hold = workload.value("hold", json());
  if (!hold.is_object() || workload.value("reason", "").find("ordered by ") != std::string::npos) {
    return {};
  }
  const std::string reason = hold.value("reason", "");
  return fmt::format("also quarantined, ordered by {} at {}{}{}", hold.value("by", "?"),
                     hold.value("since", "?"), reason.empty() ? "" : ": ", reason);
}

void print_workloads(const json& workloads) {
  Table table({"NAME", "KIND", "STATE", "LABELS"});
  table.paint_column(2);
  std::string notes;
  for (const auto& workload : workloads) {
    const std::string name = workload.value("name", "?");
    table.add({name, workload.value("kind", "?"), workload.value("state", "?"),
               labels_text(workload.value("labels", json::object()))});
    if (const std::string reason = workload.value("reason", ""); !reason.empty()) {
      notes += fmt::format("{}: {}\n", printable(name), printable(reason));
    }
    if (const std::string order = order_text(workload); !order.empty()) {
      notes += fmt::format("{}: {}\n", printable(name), printable(order));
    }
    for (const auto& warning : workload.value("warnings", json::array())) {
      notes +=
          fmt::format("{}: warning: {}\n", printable(name), printable(warning.get<std::string>()));
    }
  }
  fmt::print("{}", table.render(terminal_width()));
  if (!notes.empty()) {
    fmt::print("\n{}", fit(notes, 4));
  }
}

}  // namespace

void add_workloads(CLI::App& parent, Globals& globals, Action& action) {
  CLI::App* command =
      add_command(parent, globals, "workloads", "List the workloads and their labels");
  command->callback([&] {
    action = [&] {
      const auto workloads = ask(globals, control::method::workloads, json::object());
      if (!workloads) {
        return report(globals, workloads.error());
      }
      globals.json ? print_json(*workloads) : print_workloads(*workloads);
      return kYes;
    };
  });
}

}  // namespace trireme::cli
